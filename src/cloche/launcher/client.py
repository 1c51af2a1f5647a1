"""The daemon's end: it starts the launcher, asks it for monitors and jobs, and talks to monitors. All on
asyncio, no thread."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence

import msgspec

import cloche
from cloche.errors import Internal, InvalidArgument, Unavailable
from cloche.kernel import sealed
from cloche.launcher.protocol import (
    JobAnswer,
    JobFailed,
    Launch,
    LayerUnpacked,
    Request,
    RunPlan,
    Unpack,
    Warm,
)
from cloche.monitor import packets
from cloche.monitor.protocol import (
    Attach,
    Attachment,
    FromMonitor,
    MonitorConfig,
    Release,
    Resize,
    Signal,
    ToMonitor,
)
from cloche.plan import codec
from cloche.plan.step import Step

# msgspec takes typing_extensions where it is installed; it is large, and nothing here needs it.
_PROGRAM = (
    "import sys; sys.path += sys.argv[2:]; sys.modules['typing_extensions'] = None; "
    "from cloche.launcher.server import main; main(int(sys.argv[1]))"
)

_to_daemon: msgspec.msgpack.Decoder[FromMonitor] = msgspec.msgpack.Decoder(FromMonitor)
_answer: msgspec.msgpack.Decoder[JobAnswer] = msgspec.msgpack.Decoder(JobAnswer)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter and not waiter.done():
        waiter.set_result(None)


class Channel:
    """One non-blocking ``SOCK_SEQPACKET`` socket on the running loop. Packets that arrived wait in a
    queue."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._loop = asyncio.get_running_loop()
        self._packets: deque[bytes] = deque()
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._sending = asyncio.Lock()
        self._loop.add_reader(end.fileno(), self._read)

    def _read(self) -> None:
        try:
            while (packet := packets.receive(self._socket)) is not None:
                packets.close(packet[1])
                self._packets.append(packet[0])
            self.close()
        except BlockingIOError:
            pass
        except (OSError, packets.Truncated):
            self.close()
        _wake(self._waiter)

    async def receive(self) -> bytes | None:
        """Next packet, ``None`` after the last one of a connection that ended."""
        while not self._packets:
            if self._closed:
                return None
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._packets.popleft()

    async def send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """Raises ``OSError`` when the peer is gone."""
        async with self._sending:
            while True:
                if self._closed:
                    raise ConnectionResetError("the connection has ended")
                try:
                    packets.send(self._socket, message, descriptors)
                    return
                except BlockingIOError:
                    await self._writable()

    async def _writable(self) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._socket.fileno(), _wake, waiter)
        try:
            await waiter
        finally:
            if not self._closed:
                self._loop.remove_writer(self._socket.fileno())

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        _wake(self._waiter)


class MonitorConnection:
    """One container's monitor. Iterate over it for what happens; the iteration ends with the connection.

    First comes a ``Status``; after a launch it is followed by ``Started`` or ``StartFailed``. After
    ``release`` the connection ends as soon as the container's cgroups are gone: wait for that before the
    same container is launched again."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    @classmethod
    async def connect(cls, socket_path: str) -> MonitorConnection:
        """To a monitor that another daemon launched. Raises ``Unavailable`` where none listens (it is dead:
        the exit record, if there is one, is all that is left)."""
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            end.connect(socket_path)
        except OSError as error:
            end.close()
            raise Unavailable(f"no monitor answers at {socket_path}: {error.strerror}") from error
        return cls(Channel(end))

    def __aiter__(self) -> MonitorConnection:
        return self

    async def __anext__(self) -> FromMonitor:
        while (packet := await self._channel.receive()) is not None:
            try:
                return _to_daemon.decode(packet)
            except msgspec.MsgspecError:
                # A monitor of another version: what it has to tell is unknown here.
                continue
        raise StopAsyncIteration

    async def attach(self, descriptor: int, attachment: Attachment) -> None:
        """Hand a client's connection on. ``descriptor`` is closed here; the monitor has its own copy
        then."""
        try:
            await self._send(Attach(attachment), [descriptor])
        finally:
            os.close(descriptor)

    async def resize(self, rows: int, columns: int) -> None:
        await self._send(Resize(rows, columns))

    async def signal(self, number: int) -> None:
        await self._send(Signal(number))

    async def release(self) -> None:
        """The exit is stored: the monitor may go."""
        await self._send(Release())

    async def _send(self, message: ToMonitor, descriptors: Sequence[int] = ()) -> None:
        try:
            await self._channel.send(msgspec.msgpack.encode(message), descriptors)
        except OSError as error:
            raise Unavailable("the container's monitor has ended") from error

    def close(self) -> None:
        """Let go; monitor and container run on."""
        self._channel.close()


class Launcher:
    """The fork server, started when first needed and started again after its death."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
        """What containers inherit, whatever the daemon then allows itself."""

    @classmethod
    async def start(cls) -> Launcher:
        """Start it now, so that the first container does not wait for an interpreter. Raises
        ``Unavailable``."""
        launcher = cls()
        launcher._live_channel()
        return launcher

    async def launch(
        self,
        monitor: MonitorConfig,
        host: tuple[Step, ...],
        container: tuple[Step, ...],
        descriptors: Sequence[int] = (),
    ) -> MonitorConnection:
        """Fork a monitor, which runs the plan. Returns at once; the outcome comes over the connection.

        ``descriptors`` are client connections, one for each entry of ``monitor.attach``; they are closed
        here."""
        request = Launch(monitor, msgspec.Raw(codec.encode(host)), msgspec.Raw(codec.encode(container)))
        try:
            return MonitorConnection(await self._request(request, descriptors))
        finally:
            packets.close(descriptors)

    async def run_plan(self, steps: tuple[Step, ...]) -> None:
        """Run host steps in a job. Raises ``Internal`` with the failed step's text; ``Unavailable`` when the
        job died."""
        await self._job(RunPlan(msgspec.Raw(codec.encode(steps))), (), f"the plan of {len(steps)} steps")

    async def unpack(self, descriptor: int, target: str) -> LayerUnpacked:
        """Unpack the layer read from ``descriptor`` (which stays the caller's) into the empty directory
        ``target``.

        Raises ``InvalidArgument`` where the archive is at fault, ``Internal`` where the machine is,
        ``Unavailable`` when the job died."""
        answer = await self._job(Unpack(target), (descriptor,), f"unpacking into {target}")
        if not isinstance(answer, LayerUnpacked):
            raise Internal(f"unpacking into {target} was answered with {answer}")
        return answer

    async def warm(self) -> None:
        """A start is near: let the kernel's wait before a cgroup attach begin now."""
        await self._send(Warm(), ())

    async def close(self) -> None:
        """End the launcher. Monitors and containers run on."""
        if self._channel:
            self._channel.close()
        if self._process:
            await asyncio.get_running_loop().run_in_executor(None, self._process.wait)
            self._process = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def _job(self, request: Request, descriptors: Sequence[int], what: str) -> JobAnswer:
        answers = await self._request(request, descriptors)
        try:
            packet = await answers.receive()
        finally:
            answers.close()
        if packet is None:
            raise Unavailable(
                f"{what}: the job was killed or the launcher ended before it was done; try again"
            )
        answer = _answer.decode(packet)
        if isinstance(answer, JobFailed):
            raise (InvalidArgument if answer.invalid else Internal)(answer.message)
        return answer

    async def _request(self, request: Request, descriptors: Sequence[int]) -> Channel:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                await self._send(request, (theirs.fileno(), *descriptors))
            except BaseException:
                ours.close()
                raise
        return Channel(ours)

    async def _send(self, request: Request, descriptors: Sequence[int]) -> None:
        message = msgspec.msgpack.encode(request)
        try:
            await self._live_channel().send(message, descriptors)
        except OSError:
            # It died between two requests, and its death is only seen now: one more try with a new one.
            try:
                await self._live_channel(renew=True).send(message, descriptors)
            except OSError as error:
                raise Unavailable(
                    f"the launcher does not stay alive: {error}; see the daemon's stderr"
                ) from error

    def _live_channel(self, renew: bool = False) -> Channel:
        # Its spare may outlive it, hold the socket open and take one last request: ask for the process too.
        alive = self._process is not None and self._process.poll() is None
        if alive and self._channel and not self._channel.closed and not renew:
            return self._channel
        if self._channel:
            self._channel.close()
        if self._process:
            self._process.wait()
        try:
            self._process, end = spawn()
            resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, self._descriptors)
        except OSError as error:
            raise Unavailable(f"the launcher cannot be started: {error}") from error
        self._channel = Channel(end)
        return self._channel


def spawn() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a launcher from a sealed copy of this interpreter. Returns it and our end of its socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    interpreter = sealed.copy_of(os.path.realpath(sys.executable))
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    if directory := sealed.library_directory():
        environment["LD_LIBRARY_PATH"] = directory
    paths = list(dict.fromkeys(_parent(module.__file__) for module in (cloche, msgspec)))
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, str(theirs.fileno()), *paths],
            executable=f"/proc/self/fd/{interpreter}",
            pass_fds=(interpreter, theirs.fileno()),
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(interpreter)
    return process, ours


def _parent(path: str | None) -> str:
    assert path, "cloche and msgspec are ordinary packages"
    return os.path.dirname(os.path.dirname(os.path.abspath(path)))
