// The camera, with the browser's permission: a live picture, and a photo of it when asked for.
export class Camera {
  // find: element by id.  take: gets the photo as a File.  complain: gets why there is none.
  constructor(find, take, complain) {
    this.find = find;
    this.take = take;
    this.complain = complain;
    // browsers give a camera to this machine's own pages and to https only
    find("open-camera").hidden = !navigator.mediaDevices;
    find("open-camera").addEventListener("click", () => this.open());
    find("take").addEventListener("click", () => this.shoot());
    find("close-camera").addEventListener("click", () => this.close());
  }

  async open() {
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } }, audio: false });
    } catch (problem) {
      const why = { NotAllowedError: "the browser was not allowed to use it", NotFoundError: "there is none" }[problem.name];
      return this.complain(`No camera: ${why || problem.message}.`);
    }
    this.find("camera").hidden = false;
    this.find("live").srcObject = this.stream;
    await this.find("live").play();
    this.find("take").focus();
  }

  shoot() {
    const live = this.find("live"), canvas = document.createElement("canvas");
    canvas.width = live.videoWidth;
    canvas.height = live.videoHeight;
    canvas.getContext("2d").drawImage(live, 0, 0);
    const name = `camera ${new Date().toLocaleTimeString()}.jpg`.replaceAll(":", "."); // a name that files may have
    canvas.toBlob((blob) => this.take(new File([blob], name, { type: "image/jpeg" })), "image/jpeg", 0.92);
    this.close();
  }

  close() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.find("live").srcObject = null;
    this.find("camera").hidden = true;
  }
}
