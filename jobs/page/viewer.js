// Draws the two meshes with WebGL 2 and turns them round: drag, wheel, two fingers, keys. Format: jobs/page/answers.py, encode_viewer_mesh.
const VERTEX = `#version 300 es
uniform mat4 place; uniform mat3 turn;
in vec3 position; in vec3 normal; in vec4 colour;
out vec3 n; out vec3 c;
void main() { gl_Position = place * vec4(position, 1.0); n = turn * normal; c = pow(colour.rgb, vec3(2.2)); }`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 n; in vec3 c; out vec4 pixel;
void main() {
  vec3 m = normalize(gl_FrontFacing ? n : -n);
  float key = max(dot(m, normalize(vec3(-0.4, 0.6, 0.8))), 0.0), fill = max(dot(m, normalize(vec3(0.8, 0.1, 0.5))), 0.0);
  float shine = pow(max(dot(m, normalize(vec3(-0.2, 0.3, 1.0))), 0.0), 40.0);
  vec3 light = c * (0.3 + 0.12 * m.y + 0.6 * key + 0.2 * fill) + 0.05 * shine;
  pixel = vec4(pow(light, vec3(1.0 / 2.2)), 1.0);
}`;
// pixels between the first two fingers
const apart = (fingers) => { const [a, b] = [...fingers.values()]; return b ? Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1])) : 1; };
const START = { yaw: 0.35, pitch: 0.12, zoom: 1 };

export class Viewer {
  // canvas: its CSS size decides the picture's. Throws if there is no WebGL 2.
  constructor(canvas) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", { alpha: true, antialias: true, premultipliedAlpha: false, preserveDrawingBuffer: true });
    if (!this.gl) throw new Error("no WebGL 2");
    this.view = { ...START };
    this.shown = { hand: true, head: true };
    this.colour = "contact";
    this.#prepare();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.#prepare(); if (this.bytes) this.show(this.bytes); });
    new ResizeObserver(() => this.draw()).observe(canvas);
    this.#listen();
  }

  show(bytes) {
    this.bytes = bytes;
    const gl = this.gl, [count, hand, head] = new Uint32Array(bytes, 0, 3);
    let at = 12;
    const take = (type, length) => { const part = new type(bytes, at, length); at += part.byteLength; return part; };
    const positions = take(Float32Array, 3 * count), normals = take(Float32Array, 3 * count);
    this.#fill("position", positions);
    this.#fill("normal", normals);
    this.#fill("contact", take(Uint8Array, 4 * count));
    this.#fill("deformation", take(Uint8Array, 4 * count));
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.buffers.triangles);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, take(Uint32Array, 3 * (hand + head)), gl.STATIC_DRAW);
    this.triangles = { hand: [0, hand], head: [hand, head] };
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    positions.forEach((value, i) => { low[i % 3] = Math.min(low[i % 3], value); high[i % 3] = Math.max(high[i % 3], value); });
    this.centre = low.map((value, k) => (value + high[k]) / 2);
    this.radius = Math.max(1e-4, Math.hypot(...high.map((value, k) => value - low[k])) / 2);
    this.draw();
  }

  reset() { this.view = { ...START }; this.draw(); }
  turn(yaw, pitch) {
    this.view.yaw += yaw;
    this.view.pitch = Math.min(1.5, Math.max(-1.5, this.view.pitch + pitch));
    this.draw();
  }
  zoom(factor) { this.view.zoom = Math.min(8, Math.max(0.4, this.view.zoom * factor)); this.draw(); }

  draw() {
    cancelAnimationFrame(this.next);
    this.next = requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    const gl = this.gl, canvas = this.canvas;
    if (!this.triangles || gl.isContextLost()) return;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * devicePixelRatio));
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    const [turn, place] = this.#matrices();
    gl.useProgram(this.program);
    gl.uniformMatrix3fv(gl.getUniformLocation(this.program, "turn"), false, turn);
    gl.uniformMatrix4fv(gl.getUniformLocation(this.program, "place"), false, place);
    this.#attribute("position", "position", 3, gl.FLOAT, false);
    this.#attribute("normal", "normal", 3, gl.FLOAT, false);
    this.#attribute("colour", this.colour, 4, gl.UNSIGNED_BYTE, true);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.buffers.triangles);
    for (const name of ["hand", "head"]) {
      const [first, count] = this.triangles[name];
      if (this.shown[name]) gl.drawElements(gl.TRIANGLES, 3 * count, gl.UNSIGNED_INT, 12 * first);
    }
  }

  // Rotation (columns) and the whole map to clip space: a camera 4 radii away that sees the sphere around everything.
  #matrices() {
    const { yaw, pitch, zoom } = this.view, [a, b] = [Math.cos(yaw), Math.sin(yaw)], [c, d] = [Math.cos(pitch), Math.sin(pitch)];
    const turn = [a, d * b, -c * b, 0, c, d, b, -d * a, c * a];
    const r = this.radius, distance = 4 * r, near = distance - r * 1.5, far = distance + r * 1.5;
    const aspect = this.canvas.width / this.canvas.height, focal = 4.6 * zoom * Math.min(1, aspect);
    const scale = [focal / aspect, focal, -(far + near) / (far - near)], w = -1;
    const moved = [0, 1, 2].map((row) => -(turn[row] * this.centre[0] + turn[3 + row] * this.centre[1] + turn[6 + row] * this.centre[2]));
    moved[2] -= distance;
    const place = [];
    for (let column = 0; column < 3; column += 1) {
      const [x, y, z] = turn.slice(3 * column, 3 * column + 3);
      place.push(scale[0] * x, scale[1] * y, scale[2] * z, w * z);
    }
    place.push(scale[0] * moved[0], scale[1] * moved[1], scale[2] * moved[2] - (2 * far * near) / (far - near), w * moved[2]);
    return [new Float32Array(turn), new Float32Array(place)];
  }

  #prepare() {
    const gl = this.gl;
    this.program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(this.program, shader);
    }
    gl.linkProgram(this.program);
    if (!gl.getProgramParameter(this.program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(this.program) || "no shader");
    this.buffers = {};
    for (const name of ["position", "normal", "contact", "deformation", "triangles"]) this.buffers[name] = gl.createBuffer();
  }

  #fill(name, values) {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.buffers[name]);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, values, this.gl.STATIC_DRAW);
  }

  #attribute(name, buffer, size, type, normalized) {
    const place = this.gl.getAttribLocation(this.program, name);
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.buffers[buffer]);
    this.gl.enableVertexAttribArray(place);
    this.gl.vertexAttribPointer(place, size, type, normalized, 0, 0);
  }

  #listen() {
    const canvas = this.canvas;
    const fingers = new Map(); // pointer -> [x, y]
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      canvas.focus({ preventScroll: true });
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => fingers.delete(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (!fingers.has(event.pointerId) || !(event.buttons & 1)) return;
      const [x, y] = fingers.get(event.pointerId), before = apart(fingers);
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (fingers.size > 1) this.zoom(apart(fingers) / before);
      else this.turn((4 * (event.clientX - x)) / canvas.clientHeight, (4 * (event.clientY - y)) / canvas.clientHeight);
    });
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); this.zoom(Math.exp(-event.deltaY / 600)); }, { passive: false });
    const keys = {
      ArrowLeft: () => this.turn(-0.15, 0), ArrowRight: () => this.turn(0.15, 0), ArrowUp: () => this.turn(0, -0.15), ArrowDown: () => this.turn(0, 0.15),
      "+": () => this.zoom(1.15), "=": () => this.zoom(1.15), "-": () => this.zoom(1 / 1.15), Home: () => this.reset(),
    };
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
  }
}
