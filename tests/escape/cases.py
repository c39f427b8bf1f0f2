"""Ways out of a sandbox, each as a function that returns when it got out and raises when not.

Run as `cases.py FACTS`, where FACTS is JSON about the host that the suite prepared. Prints one JSON
object per case. `bites` says where a case has to succeed without isolation, so that it is known to
try something: for every user, for root with all capabilities, or as the host has it.

Names in brackets are what each case is taken from: a CVE, an issue, or a rule of the design.
"""

import array
import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import termios

FACTS = json.loads(sys.argv[1])
CASES = []
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
SYSCALLS = {
    "x86_64": dict(io_uring_setup=425, bpf=321, perf_event_open=298, keyctl=250, add_key=248,
                   userfaultfd=323, name_to_handle_at=303, open_by_handle_at=304, clone3=435,
                   ptrace=101, process_vm_readv=310, pidfd_open=434, pidfd_getfd=438, setns=308,
                   unshare=272, mount=165, chroot=161, syslog=103, acct=163, sethostname=170,
                   fanotify_init=300, open_tree=428, fsopen=430, kcmp=312, quotactl=179,
                   pivot_root=155, umount2=166, delete_module=176, clock_settime=227,
                   openat2=437, memfd_create=319, swapoff=168, iopl=172, io_uring_register=427,
                   request_key=249, move_mount=429, process_vm_writev=311,
                   reboot=169, kexec_load=246, shmat=30, pidfd_send_signal=424),
    "aarch64": dict(io_uring_setup=425, bpf=280, perf_event_open=241, keyctl=219, add_key=217,
                    userfaultfd=282, name_to_handle_at=264, open_by_handle_at=265, clone3=435,
                    ptrace=117, process_vm_readv=270, pidfd_open=434, pidfd_getfd=438, setns=268,
                    unshare=97, mount=40, chroot=51, syslog=116, acct=89, sethostname=161,
                    fanotify_init=262, open_tree=428, fsopen=430, kcmp=272, quotactl=60,
                    pivot_root=41, umount2=39, delete_module=106, clock_settime=112,
                    openat2=437, memfd_create=279, swapoff=225, io_uring_register=427,
                    request_key=218, move_mount=429, process_vm_writev=271,
                    reboot=142, kexec_load=104, shmat=196, pidfd_send_signal=424),
}.get(os.uname().machine, {})


class CantTry(Exception):
    """The host lacks what the case is about."""


def case(source, bites="any"):
    def add(function):
        CASES.append((function.__name__, source, bites, function))
        return function
    return add


def call(name, *args):
    if name not in SYSCALLS:
        raise CantTry(f"no number for {name} on {os.uname().machine}")
    args = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    result = LIBC.syscall(ctypes.c_long(SYSCALLS[name]), *args)
    if result < 0:
        number = ctypes.get_errno()
        if number == errno.ENOSYS and not FACTS["isolated"]:
            raise CantTry(f"the kernel has no {name}")
        raise OSError(number, os.strerror(number), name)
    return result


def meant(expected, name, *args):
    """A call whose arguments are wrong on purpose: an answer about them means that it was let in."""
    try:
        call(name, *args)
    except OSError as error:
        if error.errno not in expected:
            raise


def expect(condition, why):
    if not condition:
        raise PermissionError(why)


# Files of the host.

@case("secrets by path")
def reads_a_secret(): expect(open(FACTS["secret"]).read() == FACTS["word"], "other content")

@case("a look around")
def lists_a_folder_of_the_host(): expect("secret" in os.listdir(FACTS["hidden"]), "not there")

@case("CVE-2026-39861: a link made inside")
def reads_through_a_link_in_the_work_tree():
    os.symlink(FACTS["secret"], "link-to-secret")
    expect(open("link-to-secret").read() == FACTS["word"], "other content")

@case("openai/codex#1705: a hard link to a file outside")
def links_a_secret_into_the_work_tree(): os.link(FACTS["secret"], "hard-link")

@case("a path by way of /proc/self/root (Ona, row 52)")
def reads_by_way_of_its_own_root():
    expect(open("/proc/self/root" + FACTS["secret"]).read() == FACTS["word"], "other content")

@case("a path by way of a process of the host")
def reads_by_way_of_another_processs_root():
    path = f"/proc/{FACTS['victim']}/root{FACTS['secret']}"
    expect(open(path).read() == FACTS["word"], "other content")

@case("CVE-2024-21626: the folder of another process")
def enters_the_folder_of_another_process():
    os.chdir(f"/proc/{FACTS['victim']}/cwd")
    expect("secret" in os.listdir("."), "not there")

@case("a path with more than enough ..")
def climbs_out_of_the_work_tree():
    expect(open("../" * 40 + FACTS["secret"].lstrip("/")).read() == FACTS["word"], "other content")

@case("CVE-2024-21626: a descriptor that leaked")
def uses_a_descriptor_that_leaked():
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and "secret" in listed(int(name)):
            return
    raise PermissionError("no descriptor leads out")

def listed(number):
    try:
        return os.listdir(number)
    except OSError:
        return []

@case("writing beside the work tree")
def writes_outside(): open(FACTS["marker"], "w").write("x")

@case("writing through a link in the work tree")
def writes_through_a_link():
    os.symlink(FACTS["marker"] + "-link", "link-out")
    open("link-out", "w").write("x")

@case("the host's /tmp")
def sees_files_in_tmp(): expect(os.path.exists(FACTS["in_tmp"]), "not there")

@case("the host's shared memory")
def sees_shared_memory_of_the_host(): expect(os.path.exists(FACTS["in_shm"]), "not there")

@case("the host's users")
def reads_users_of_the_host():
    expect(len(open("/etc/passwd").read().splitlines()) > 5, "only users of the sandbox")

@case("shadow, as root for the kernel (section 1)", "root")
def reads_passwords(): open("/etc/shadow").read()

@case("devices of the host", "root")
def finds_block_devices():
    import stat
    kinds = [os.lstat(f"/dev/{name}").st_mode for name in os.listdir("/dev")]
    if not FACTS["isolated"] and not any(map(stat.S_ISBLK, kinds)):
        raise CantTry("the host shows no block device either")
    expect(any(map(stat.S_ISBLK, kinds)), "there is none")

@case("a device made by hand", "root")
def makes_a_device(): os.mknod("device", 0o600 | 0o060000, os.makedev(8, 0))

@case("CVE-2019-5736: the helper's own file", "host")
def writes_to_the_helpers_file():
    for path in ("/run/patchfleet/sandbox", FACTS["program"], "/proc/1/exe"):
        try:
            open(path, "r+b").close()
            return
        except OSError as error:
            last = error
    raise last

@case("programs of the system", "root")
def writes_to_the_system(): open("/usr/.patchfleet-escape", "w").close(); os.unlink("/usr/.patchfleet-escape")

@case("CVE-2025-31133: settings of the kernel", "root")
def opens_core_pattern_for_writing(): os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))

@case("the kernel's emergency keys", "host")
def opens_sysrq_for_writing(): os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY))

@case("the kernel's messages", "root")
def reads_kernel_messages(): os.close(os.open("/proc/kmsg", os.O_RDONLY | os.O_NONBLOCK))

@case("CVE-2022-0492: control groups", "root")
def makes_a_control_group():
    for parent in FACTS["groups"]:
        path = os.path.join(parent, "patchfleet-escape")
        os.mkdir(path)
        os.rmdir(path)
        return
    raise CantTry("no control groups are mounted") if not FACTS["isolated"] else PermissionError("none seen")

@case("settings of the kernel: namespaces for everybody again", "host")
def opens_the_limit_of_namespaces_for_writing():
    os.close(os.open("/proc/sys/user/max_user_namespaces", os.O_WRONLY))

@case("the memory of the kernel", "root")
def opens_the_memory_of_the_kernel():
    last = CantTry("the host shows none of them either")
    for path in ("/dev/mem", "/dev/kmem", "/dev/port", "/proc/kcore"):
        try:
            os.close(os.open(path, os.O_RDONLY))
            return
        except FileNotFoundError:
            pass
        except OSError as error:
            last = error
    raise last if not FACTS["isolated"] or isinstance(last, OSError) else PermissionError("there is none")

@case("rights that stick to a file", "root")
def gives_a_file_capabilities():
    open("capable", "w").close()
    rights = struct.pack("<IIIII", 0x02000000, 1 << 21, 0, 0, 0)
    os.setxattr("capable", "security.capability", rights)

@case("CVE-2023-25809: /sys")
def looks_into_sys(): expect(os.listdir("/sys/class"), "empty")


# Sockets and network.

@case("Zouuup/landrun#43: a socket of the host by path")
def connects_to_a_socket_of_the_host(): stream(socket.AF_UNIX, FACTS["socket"])

@case("openai/codex#24834: services of the host by their sockets", "host")
def connects_to_a_service_of_the_host():
    services = ("/var/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock",
                "/run/dbus/system_bus_socket", "/run/systemd/private", "/run/systemd/journal/stdout")
    there = [path for path in services if os.path.exists(path)]
    if not there and not FACTS["isolated"]:
        raise CantTry("the host has none of them")
    expect(there, "none is seen")
    stream(socket.AF_UNIX, there[0])

@case("landlock#57: an abstract socket of the host")
def connects_to_an_abstract_socket(): stream(socket.AF_UNIX, "\0" + FACTS["abstract"])

@case("the loopback of the host")
def connects_to_the_hosts_loopback(): stream(socket.AF_INET, ("127.0.0.1", FACTS["port"]))

@case("the loopback of the host, by UDP")
def sends_to_the_hosts_loopback():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(2)
        udp.connect(("127.0.0.1", FACTS["udp"]))
        udp.send(b"x")
        expect(udp.recv(1) == b"x", "no answer")

@case("a network without a proxy (claude-code-action#341)", "host")
def sees_other_interfaces():
    names = [name for _, name in socket.if_nameindex()]
    expect(any(name != "lo" for name in names), f"only {names}")

@case("a route out", "host")
def has_a_route(): expect(len(open("/proc/net/route").read().splitlines()) > 1, "no route")

@case("srt#88: the host's resolver", "host")
def finds_a_resolver():
    servers = [line for line in open("/etc/resolv.conf") if line.startswith("nameserver")]
    if not servers and not FACTS["isolated"]:
        raise CantTry("the host has none")
    expect(any("127.0.0.1" not in line for line in servers), "only one that does not answer")

def stream(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(address)

def family(number, kind=socket.SOCK_STREAM, protocol=0):
    try:
        socket.socket(number, kind, protocol).close()
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            raise CantTry("the kernel has no such family") from error
        raise

@case("Codex' seccomp.rs: AF_VSOCK reaches the hypervisor", "host")
def opens_a_vsock(): family(40)

@case("raw packets", "root")
def opens_a_packet_socket(): family(17, socket.SOCK_RAW, 0x0300)

@case("faults of AF_ALG", "host")
def opens_a_crypto_socket(): family(38, socket.SOCK_SEQPACKET)

@case("Bluetooth", "host")
def opens_a_bluetooth_socket(): family(31, socket.SOCK_RAW, 1)

@case("packets below TCP and UDP", "root")
def opens_a_raw_socket(): family(socket.AF_INET, socket.SOCK_RAW, 1)

@case("faults of families that nobody needs", "host")
def opens_a_socket_of_a_rare_family():
    last = CantTry("the kernel has none of them")
    for number in (9, 21, 29, 30, 37, 39, 41, 43, 44, 45):
        for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
            try:
                return family(number, kind, 1 if number == 29 else 0)
            except CantTry:
                pass
            except OSError as error:
                last = error
    raise last

@case("the kernel's events")
def opens_a_netlink_socket_of_events(): family(16, socket.SOCK_RAW, 15)

@case("the kernel's packet filter")
def opens_a_netlink_socket_of_netfilter(): family(16, socket.SOCK_RAW, 12)


# Other processes.

@case("a process of the host by its number")
def signals_a_process_of_the_host(): os.kill(FACTS["victim"], 0)

@case("processes of the host")
def finds_a_process_of_the_host():
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and FACTS["word"] in open(f"/proc/{name}/cmdline").read():
                if int(name) == FACTS["victim"]:
                    return
        except OSError:
            pass
    raise PermissionError("it is not seen")

@case("secrets in another process's environment")
def reads_another_processs_environment():
    path = f"/proc/{FACTS['victim']}/environ"
    expect(FACTS["word"] in open(path).read(), "other content")

@case("srt: ptrace of an unfiltered helper", "host")
def traces_another_process():
    call("ptrace", 0x4206, target(), 0, 0)  # PTRACE_SEIZE, which ends with this process

@case("the memory of another process", "host")
def reads_another_processs_memory(): open(f"/proc/{target()}/mem", "rb").close()

@case("the memory of another process, by its own call", "host")
def reads_another_processs_memory_by_call(): meant({errno.EFAULT}, "process_vm_readv", target(), 0, 0, 0, 0, 0)

@case("a verdict that is forged: descriptors of who reports it", "host")
def opens_a_descriptor_of_another_process():
    folder = f"/proc/{target()}/fd"
    last = PermissionError("none is open")
    for name in os.listdir(folder):
        try:
            os.close(os.open(f"{folder}/{name}", os.O_WRONLY | os.O_APPEND))
            return
        except OSError as error:
            last = error
    raise last

@case("memory that processes of the host share")
def attaches_the_hosts_shared_memory():
    if FACTS["shared"] is None:
        raise CantTry("no shared memory could be made on this host")
    call("shmat", FACTS["shared"], 0, 0o10000)

@case("a place before everybody else's at the processor", "root")
def takes_the_processor_in_real_time():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))

@case("a place before everybody else's at the processor, asked for politely", "root")
def is_nicer_to_itself(): os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) - 1)

@case("the environment of process 1", "host")
def reads_the_environment_of_process_1(): open("/proc/1/environ", "rb").read()

@case("a descriptor of another process", "host")
def takes_a_descriptor_of_another_process():
    call("pidfd_getfd", call("pidfd_open", target(), 0), 0, 0)

@case("a comparison that tells addresses of the kernel", "host")
def compares_with_another_process(): call("kcmp", os.getpid(), target(), 2, 0, 0)

def target():
    """The victim, or inside of a process namespace its first process."""
    return 1 if FACTS["isolated"] else FACTS["victim"]

@case("the namespaces of another process", "root")
def enters_anothers_namespace():
    number = os.open(f"/proc/{target()}/ns/uts", os.O_RDONLY)
    call("setns", number, 0)

@case("CVE-2017-5226: typing for whoever sits at the terminal", "host")
def types_into_a_terminal():
    leader, follower = os.openpty()
    os.setsid()
    fcntl.ioctl(follower, termios.TIOCSCTTY, 0)
    fcntl.ioctl(follower, termios.TIOCSTI, b"x")


# Rights.

@case("setuid programs")
def could_gain_privileges(): expect("NoNewPrivs:\t0" in open("/proc/self/status").read(), "no_new_privs is set")

@case("capabilities", "root")
def has_capabilities():
    status = open("/proc/self/status").read()
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    expect(int(line.split()[1], 16) != 0, "none")

@case("capabilities that a program could get")
def could_get_capabilities():
    status = open("/proc/self/status").read()
    line = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    expect(int(line.split()[1], 16) != 0, "none")

@case("OpenShell#578: no filter at all")
def runs_without_a_filter(): expect("Seccomp:\t0" in open("/proc/self/status").read(), "filtered")

@case("the host's name")
def knows_the_hosts_name(): expect(socket.gethostname() == FACTS["host"], "another name")

@case("root in a chroot", "root")
def changes_its_root(): os.mkdir("root"); os.chroot("root")


# System calls.

@case("a user namespace of its own", "host")
def makes_a_user_namespace(): call("unshare", 0x10000000)

@case("the same by clone3, whose flags no filter can read", "host")
def makes_a_user_namespace_by_clone3():
    args = struct.pack("QQQQQQQQ", 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    pid = call("clone3", args, len(args))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)

@case("containerd#9048: io_uring does what the filter forbids", "host")
def sets_up_io_uring(): os.close(call("io_uring_setup", 1, bytes(120)))

@case("io_uring by its other door", "host")
def registers_with_io_uring(): meant({errno.EBADF, errno.EINVAL, errno.EOPNOTSUPP}, "io_uring_register", -1, 0, 0, 0)

@case("programs in the kernel", "host")
def loads_a_bpf_map(): os.close(call("bpf", 0, struct.pack("IIII", 2, 4, 4, 1) + bytes(112), 128))

@case("counters of the processor", "host")
def opens_a_performance_counter():
    event = struct.pack("IIQ", 1, 112, 0) + bytes(24) + struct.pack("Q", 0b1100000) + bytes(64)
    os.close(call("perf_event_open", event, 0, -1, -1, 0))

@case("keys of the kernel's rings", "host")
def adds_a_key(): call("add_key", b"user", b"patchfleet", b"x", 1, -2)

@case("keys of the kernel's rings, read", "host")
def reads_a_key_ring(): call("keyctl", 0, -3, 0, 0, 0)

@case("faults that are handled by the one who attacks", "host")
def handles_page_faults(): os.close(call("userfaultfd", 1))

@case("file handles, past paths", "host")
def names_a_file_handle():
    handle = array.array("i", [128, 0] + [0] * 40)
    call("name_to_handle_at", -100, b"/usr", (ctypes.c_char * 168).from_buffer(handle), (ctypes.c_char * 8)(), 0)

@case("file handles, past mounts", "root")
def opens_a_file_handle(): meant({errno.ESTALE, errno.EINVAL, errno.EFAULT, errno.EBADF}, "open_by_handle_at", -1, 0, 0)

@case("mounts", "root")
def mounts_something():
    os.mkdir("mounted")
    call("mount", b"none", b"mounted", b"tmpfs", 0, 0)
    LIBC.umount2(b"mounted", 2)

@case("mounts by the newer calls", "root")
def mounts_by_the_newer_calls(): os.close(call("fsopen", b"tmpfs", 1))

@case("a copy of the tree of mounts", "root")
def copies_mounts(): os.close(call("open_tree", -100, b"/usr", 1))

@case("a new root", "root")
def pivots_its_root(): meant({errno.EINVAL, errno.EBUSY, errno.ENOENT}, "pivot_root", b"/nowhere", b"/nowhere")

@case("the kernel's log", "root")
def reads_the_kernels_log(): call("syslog", 10, 0, 0)

@case("accounting", "root")
def turns_accounting_off(): meant({errno.ENOSYS}, "acct", 0)

@case("the host's name, changed", "root")
def changes_the_hosts_name():
    name = socket.gethostname().encode()
    call("sethostname", name, len(name))

@case("events of all files", "root")
def watches_all_files(): os.close(call("fanotify_init", 0, 0))

@case("modules", "root")
def removes_a_module(): meant({errno.ENOENT}, "delete_module", b"patchfleet_is_no_module", 0)

@case("swap", "root")
def turns_swap_off(): meant({errno.EINVAL, errno.ENOENT}, "swapoff", b"/nowhere")

@case("ports of the processor", "root")
def opens_ports(): call("iopl", 0)

@case("the machine itself", "root")
def starts_the_machine_again(): meant({errno.EINVAL}, "reboot", 0, 0, 0, 0)

@case("another kernel", "root")
def loads_another_kernel(): meant({errno.EINVAL, errno.EBUSY}, "kexec_load", 0, 0, 0, 0x7fff)

@case("the 32-bit door, whose numbers mean other calls", "host")
def calls_by_32_bit_numbers():
    if os.uname().machine != "x86_64":
        raise CantTry("there is no such door here")
    import mmap
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    # push rbx; mov eax, 20 (getpid); int 0x80; pop rbx; ret
    page.write(bytes.fromhex("53b814000000cd805bc3"))
    code = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    expect(code() == os.getpid(), "another answer")

@case("firejail#87: numbers of the x32 ABI", "host")
def calls_by_x32_numbers():
    if os.uname().machine != "x86_64":
        raise CantTry("there is no x32 here")
    if LIBC.syscall(ctypes.c_long(0x40000000 | 39)) < 0:
        raise CantTry("the kernel has no x32") if not FACTS["isolated"] else PermissionError("refused")


# What has to go on working: suites need it. These "escape" in both.

WORKS = []

def works(function):
    WORKS.append((function.__name__, function))
    return function

@works
def unix_sockets_in_the_work_tree():
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("here.sock")
        server.listen()
        stream(socket.AF_UNIX, "here.sock")

@works
def servers_on_the_loopback():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        stream(socket.AF_INET, server.getsockname())

@works
def addresses_of_interfaces(): family(16, socket.SOCK_RAW, 0)

@works
def threads_and_processes():
    import subprocess
    import threading
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    assert subprocess.run(["/bin/sh", "-c", "exit 7"]).returncode == 7

@works
def locks_in_shared_memory():
    import multiprocessing
    multiprocessing.Lock()
    multiprocessing.Value("i", 0)

@works
def anonymous_files(): os.close(os.memfd_create("x"))

@works
def terminals_of_its_own():
    for number in os.openpty():
        os.close(number)

@works
def files_in_tmp_home_and_the_work_tree():
    for folder in ("/tmp", os.environ["HOME"], "."):
        # Without isolation others use the same folder.
        path = os.path.join(folder, "file-%d" % os.getpid())
        open(path, "w").write("x")
        os.rename(path, path + "-renamed")
        os.unlink(path + "-renamed")

@works
def renames_across_folders():
    os.makedirs("a/b")
    open("a/b/file", "w").close()
    os.rename("a/b/file", "file-moved")

@works
def permissions_and_links():
    open("script", "w").write("#!/bin/sh\nexit 0\n")
    os.chmod("script", 0o755)
    os.link("script", "script-2")
    os.symlink("script", "script-3")
    assert os.system("./script-3") == 0

@works
def openat2_for_those_who_use_it():
    if "openat2" in SYSCALLS:
        os.close(call("openat2", -100, b".", struct.pack("QQQ", os.O_RDONLY, 0, 8), 24))


def attempt(function):
    """Runs a case in a process of its own; gives whether it got through, and what it said."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        signal.alarm(20)
        try:
            function()
            said = {"through": True, "why": ""}
        except CantTry as error:
            said = {"through": None, "why": str(error)}
        except BaseException as error:
            said = {"through": False, "why": f"{type(error).__name__}: {error}"}
        os.write(write, json.dumps(said).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    return json.loads(said) if said else {"through": False, "why": f"ended with status {status}"}


for name, source, bites, function in CASES:
    print(json.dumps({"case": name, "source": source, "bites": bites, **attempt(function)}), flush=True)
for name, function in WORKS:
    print(json.dumps({"case": name, "source": "has to work", "bites": "works", **attempt(function)}), flush=True)
