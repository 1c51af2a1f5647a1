"""Create, start, wait, stop, kill, restart, rename, remove."""

from __future__ import annotations

import asyncio
import shutil
import time

import pytest
from rig import Rig

from cloche.engine.start import StartError
from cloche.errors import Conflict, InvalidArgument, NotFound, NotModified

DEAF = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


async def test_a_command_runs_and_its_output_is_logged(rig: Rig) -> None:
    assert await rig.run("echo", "hi") == (0, "hi\n")


async def test_the_exit_code_is_reported_and_recorded(rig: Rig) -> None:
    id = await rig.start("sh", "-c", "exit 7")
    assert await rig.ended(id) == 7
    state = rig.engine.containers.get(id).state
    assert (state.status, state.exit_code, state.pid, state.error) == ("exited", 7, 0, "")
    assert 0 < state.started_at <= state.finished_at <= time.time_ns()
    await rig.remove(id)


async def test_a_container_runs_again_with_its_files(rig: Rig) -> None:
    id = await rig.start("sh", "-c", "echo x >> /count; cat /count")
    await rig.ended(id)
    await rig.engine.containers.start(id)
    await rig.ended(id)
    assert await rig.output(id) == "x\nx\nx\n"
    await rig.remove(id)


async def test_a_running_container_is_not_started_twice(rig: Rig) -> None:
    id = await rig.start("sleep", "60")
    with pytest.raises(NotModified):
        await rig.engine.containers.start(id)
    await rig.remove(id)


async def test_stop_sends_the_signal_and_kills_after_the_grace_time(rig: Rig) -> None:
    polite = await rig.start("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    deaf = await rig.start("sh", "-c", DEAF)
    await rig.until(polite, "ready")
    await rig.until(deaf, "ready")
    await rig.engine.containers.stop(polite, None, None)
    assert rig.engine.containers.get(polite).state.exit_code == 3
    begin = time.monotonic()
    await rig.engine.containers.stop(deaf, 1, None)
    assert 0.9 < time.monotonic() - begin < 4
    assert rig.engine.containers.get(deaf).state.exit_code == 137
    with pytest.raises(NotModified):
        await rig.engine.containers.stop(deaf, 1, None)
    await rig.remove(polite)
    await rig.remove(deaf)


async def test_a_kill_comes_through_while_a_stop_waits(rig: Rig) -> None:
    id = await rig.start("sh", "-c", DEAF)
    await rig.until(id, "ready")
    stopping = asyncio.create_task(rig.engine.containers.stop(id, -1, None))
    await asyncio.sleep(0.1)
    assert not stopping.done()
    await rig.engine.containers.kill(id, "KILL")
    async with asyncio.timeout(5):
        await stopping
    assert rig.engine.containers.get(id).state.exit_code == 137
    await rig.remove(id)


async def test_kill_sends_any_signal_and_refuses_what_is_none(rig: Rig) -> None:
    id = await rig.start("sh", "-c", "trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done")
    await rig.until(id, "ready")
    with pytest.raises(InvalidArgument, match="invalid signal: NONE"):
        await rig.engine.containers.kill(id, "NONE")
    await rig.engine.containers.kill(id, "SIGUSR1")
    assert await rig.ended(id) == 5
    with pytest.raises(Conflict, match=f"cannot kill container: {id}: container {id} is not running"):
        await rig.engine.containers.kill(id, "9")
    await rig.remove(id)


async def test_restart_runs_it_anew_also_when_it_is_to_be_removed_at_its_end(rig: Rig) -> None:
    id = await rig.start("sleep", "60", auto_remove=True)
    pid = rig.engine.containers.get(id).state.pid
    await rig.engine.containers.restart(id, 0, None)
    state = rig.engine.containers.get(id).state
    assert state.status == "running"
    assert state.pid != pid
    await rig.remove(id)


async def test_wait_conditions(rig: Rig) -> None:
    created = await rig.create("sh", "-c", "exit 4")
    assert await rig.ended(created.id) == 0
    next_exit = await rig.engine.containers.wait(created.id, "next-exit")
    removed = await rig.engine.containers.wait(created.id, "removed")
    await rig.engine.containers.start(created.id)
    async with asyncio.timeout(10):
        assert [pair async for pair in next_exit] == [(4, "")]
        await rig.engine.containers.remove(created.id, False, False)
        assert [pair async for pair in removed] == [(4, "")]
    other = await rig.create("true")
    with pytest.raises(InvalidArgument, match="invalid condition"):
        await rig.engine.containers.wait(other.id, "tomorrow")
    await rig.remove(other.id)


async def test_auto_remove_leaves_nothing(rig: Rig) -> None:
    created = await rig.create("true", auto_remove=True)
    waiting = await rig.engine.containers.wait(created.id, "removed")
    await rig.engine.containers.start(created.id)
    async with asyncio.timeout(10):
        assert [pair async for pair in waiting] == [(0, "")]
    with pytest.raises(NotFound, match=f"No such container: {created.id}"):
        rig.engine.containers.get(created.id)
    await rig.clean()


async def test_names(rig: Rig) -> None:
    first = await rig.create("true", name="first")
    assert rig.engine.containers.get("/first") == rig.engine.containers.get(first.id[:10]) == first
    with pytest.raises(Conflict) as conflict:
        await rig.create("true", name="first")
    assert str(conflict.value) == (
        f'Conflict. The container name "/first" is already in use by container "{first.id}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    with pytest.raises(InvalidArgument, match="Invalid container name"):
        await rig.create("true", name="a b")
    await rig.engine.containers.rename("first", "second")
    assert rig.engine.containers.get("second").id == first.id
    again = await rig.create("true", name="first")
    with pytest.raises(Conflict, match=r"^Error when allocating new name: Conflict\. The container name"):
        await rig.engine.containers.rename("second", "first")
    unnamed = await rig.create("true")
    assert "_" in unnamed.name
    for container in (first, again, unnamed):
        await rig.remove(container.id)
    with pytest.raises(NotFound, match="No such container: second"):
        rig.engine.containers.get("second")


async def test_a_running_container_is_removed_only_by_force(rig: Rig) -> None:
    id = await rig.start("sleep", "60", name="busy")
    with pytest.raises(Conflict) as conflict:
        await rig.engine.containers.remove(id, False, False)
    assert str(conflict.value) == (
        'cannot remove container "/busy": container is running: '
        "stop the container before removing or force remove"
    )
    await rig.engine.containers.remove(id, True, False)
    await rig.clean()


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("no-such-command", 127, "executable file not found in \\$PATH"),
        ("/no/such/file", 127, "no such file or directory"),
        ("/etc", 126, "permission denied|is a directory"),
    ],
)
async def test_failed_starts_have_dockers_codes(rig: Rig, command: str, code: int, words: str) -> None:
    created = await rig.create(command)
    with pytest.raises(InvalidArgument, match=words) as failure:
        await rig.engine.containers.start(created.id)
    assert str(failure.value).startswith("failed to create task for container: OCI runtime create failed: ")
    state = rig.engine.containers.get(created.id).state
    assert (state.status, state.exit_code, state.error) == ("created", code, str(failure.value))
    await rig.remove(created.id)
    await rig.clean()


async def test_an_unknown_user_is_found_at_the_start(rig: Rig) -> None:
    created = await rig.create("true", user="nobody-knows")
    words = "unable to find user nobody-knows: no matching entries in passwd file"
    with pytest.raises(StartError, match=words):
        await rig.engine.containers.start(created.id)
    await rig.remove(created.id)


async def test_a_failed_start_removes_what_is_to_be_removed_at_its_end(rig: Rig) -> None:
    created = await rig.create("no-such-command", auto_remove=True)
    waiting = await rig.engine.containers.wait(created.id, "removed")
    with pytest.raises(InvalidArgument):
        await rig.engine.containers.start(created.id)
    async with asyncio.timeout(5):
        assert [code async for code, _ in waiting] == [127]
    await rig.clean()


async def test_unknown_image(rig: Rig) -> None:
    with pytest.raises(NotFound, match=r"^No such image: nothing-like-it:latest$"):
        await rig.create("true", image="nothing-like-it")
    await rig.clean()


async def test_events_tell_the_life_of_a_container(rig: Rig) -> None:
    since = time.time_ns()
    id = await rig.start("sh", "-c", "exit 2", labels={"colour": "blue"}, name="told")
    await rig.ended(id)
    await rig.remove(id)
    events = [event for event in await rig.events(since, time.time_ns()) if event.actor_id == id]
    assert [event.action for event in events] == ["create", "start", "die", "destroy"]
    died = {"colour": "blue", "image": "busybox", "name": "told", "exitCode": "2", "execDuration": "0"}
    assert events[2].attributes == died


async def test_top_shows_the_processes(rig: Rig) -> None:
    id = await rig.start("sh", "-c", "sleep 61 & sleep 62")
    await asyncio.sleep(0.1)
    titles, rows = await rig.engine.containers.top(id, "")
    assert titles[:3] == ["UID", "PID", "PPID"]
    assert {row[-1] for row in rows} >= {"sleep 61", "sleep 62"}
    titles, rows = await rig.engine.containers.top(id, "-o pid,comm")
    assert titles == ["PID", "COMMAND"]
    await rig.remove(id)


async def test_eight_clients_at_once(rig: Rig) -> None:
    async def client(number: int) -> None:
        for turn in range(3):
            assert await rig.run("echo", f"{number}.{turn}") == (0, f"{number}.{turn}\n")

    await asyncio.gather(*(client(number) for number in range(8)))
    await rig.clean()


async def test_a_forced_removal_also_takes_what_is_just_being_started(rig: Rig) -> None:
    created = await rig.create("sleep", "60")
    starting = asyncio.create_task(rig.engine.containers.start(created.id))
    await asyncio.sleep(0)
    await rig.remove(created.id)
    await starting
    await rig.clean()


async def test_a_start_makes_again_what_it_needs_of_the_run_directory(rig: Rig) -> None:
    id = await rig.start("true")
    await rig.ended(id)
    shutil.rmtree(rig.settings.run_dir)
    await rig.engine.containers.start(id)
    assert await rig.ended(id) == 0
    await rig.remove(id)
