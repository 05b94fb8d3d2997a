"""One writer per folder: refused with the other's name, freed by any end of its process, taken over when dead."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from handface.pipeline.contract import lock
from handface.pipeline.contract.lock import LOCK_NAME, STALE_S, LockedError, Owner, lock_folder
from handface.pipeline.contract.storage import Folder

_HOLD = """
import sys, time
from handface.pipeline.contract.lock import lock_folder
from handface.pipeline.contract.storage import Folder
with lock_folder(Folder(sys.argv[1]), "export"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    return Folder(str(tmp_path / "out") if request.param == "local" else f"memory://{tmp_path.name}-lock")


def assert_refused(folder: Folder, match: str) -> None:
    with pytest.raises(LockedError, match=match), lock_folder(folder, "another"):
        pass


def test_a_second_writer_is_refused_with_the_name_of_the_first_and_nothing_stays(folder):
    with lock_folder(folder, "takedown"):
        assert_refused(folder, rf"`takedown` \(process {os.getpid()} on .*wait for it")
    assert not folder.exists(LOCK_NAME)
    with lock_folder(folder, "export"):
        assert folder.exists(LOCK_NAME)


def test_an_error_inside_frees_the_lock(folder):
    with pytest.raises(KeyError), lock_folder(folder, "export"):
        raise KeyError
    assert not folder.exists(LOCK_NAME)


def test_waiting_writers_take_turns(folder):
    inside, most = [], []

    def work(number):
        with lock_folder(folder, f"job {number}", wait_s=30):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.02)
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_a_killed_process_frees_the_lock_at_once(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    assert_refused(Folder(str(tmp_path)), rf"`export` \(process {other.pid} ")
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / LOCK_NAME).exists()
    with lock_folder(Folder(str(tmp_path)), "takedown"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_does_not_keep_its_parents_lock(tmp_path):
    with lock_folder(Folder(str(tmp_path)), "train"):
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
    try:
        with lock_folder(Folder(str(tmp_path)), "train"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("dead", ["another host's, long silent", "this host's, process gone"])
def test_an_object_whose_holder_is_dead_is_taken_over(tmp_path, dead):
    folder = Folder(f"memory://{tmp_path.name}-stale")
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    owner = Owner("export", pid=process.pid)
    if dead.startswith("another"):
        owner = replace(owner, host="elsewhere", renewed=time.time() - STALE_S - 1)
    folder.write(LOCK_NAME, owner.dumps())
    with lock_folder(folder, "takedown"):
        assert Owner.loads(folder.read(LOCK_NAME)).command == "takedown"


def test_an_object_that_another_host_renews_is_respected_and_not_removed(tmp_path):
    folder = Folder(f"memory://{tmp_path.name}-fresh")
    folder.write(LOCK_NAME, Owner("crawl", host="elsewhere", pid=1).dumps())
    assert_refused(folder, r"`crawl` \(process 1 on elsewhere")
    assert folder.exists(LOCK_NAME)


def test_an_object_is_renewed_also_after_any_error_of_the_store(tmp_path, monkeypatch, caplog):
    folder = Folder(f"memory://{tmp_path.name}-renewed")
    monkeypatch.setattr(lock, "RENEW_S", 0.01)
    store, errors = type(folder.filesystem), [RuntimeError("no OSError"), OSError("away")]
    write = store.pipe_file

    def faulty(self, path, value, **options):
        if errors:
            raise errors.pop(0)
        write(self, path, value, **options)

    with lock_folder(folder, "annotate"):
        first = Owner.loads(folder.read(LOCK_NAME)).renewed
        monkeypatch.setattr(store, "pipe_file", faulty)
        wait_for(lambda: Owner.loads(folder.read(LOCK_NAME)).renewed > first)
    assert caplog.text.count("could not be renewed") == 2 and not folder.exists(LOCK_NAME)


def test_a_lock_that_another_took_over_is_not_taken_back(tmp_path, monkeypatch, caplog):
    folder = Folder(f"memory://{tmp_path.name}-lost")
    monkeypatch.setattr(lock, "RENEW_S", 0.01)
    other = Owner("export", host="elsewhere", pid=1)
    with lock_folder(folder, "annotate"):
        folder.write(LOCK_NAME, other.dumps())
        wait_for(lambda: "`export` has taken over the lock" in caplog.text)
    assert Owner.loads(folder.read(LOCK_NAME)).token == other.token


def wait_for(ready):
    end = time.monotonic() + 20
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.01)
