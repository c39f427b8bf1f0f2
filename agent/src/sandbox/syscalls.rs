//! seccomp: system calls that no test needs and that have let others out of their sandboxes.
//!
//! A deny-list, because test suites and their languages use whatever there is. `EPERM` is what a
//! program gets; `ENOSYS` for `clone3`, whose flags no filter can read, so that libraries fall back
//! to `clone`, whose flags are looked at.
//!
//! Absent: working sandboxes inside (browsers need their own switch for that), debuggers, and the
//! leak checker of sanitizers, which traces.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter, sock_filter,
};

type Error = seccompiler::Error;
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Refused whatever the arguments are.
const REFUSED: &[i64] = &[
    // Does what the other rules forbid, past them.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Parts of the kernel that faults are found in.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    // Files past their paths.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // The host.
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_nfsservctl,
];

/// The same, where the processor has them.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_kexec_file_load,
    libc::SYS_uselib,
    libc::SYS_ustat,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

/// Socket families that suites use. Not among them: `AF_VSOCK`, which reaches the hypervisor past
/// the network namespace; `AF_PACKET`, `AF_ALG` and `AF_BLUETOOTH`.
const FAMILIES: &[i32] = &[
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

/// Restricts this process for good.
pub(super) fn restrict() -> Result<(), String> {
    let filters = filters().map_err(|error| error.to_string())?;
    // Each is looked at for each call; the strictest answer counts.
    for filter in filters {
        apply_filter(&filter).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn filters() -> Result<Vec<BpfProgram>, Error> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let clone3: Rules = [(libc::SYS_clone3, Vec::new())].into();
    let mut filters = vec![
        compile(clone3, libc::ENOSYS, arch)?,
        compile(refused()?, libc::EPERM, arch)?,
    ];
    if cfg!(target_arch = "x86_64") {
        filters.push(without_x32());
    }
    Ok(filters)
}

fn compile(rules: Rules, errno: i32, arch: TargetArch) -> Result<BpfProgram, Error> {
    let refusal = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, arch)?;
    Ok(filter.try_into()?)
}

fn refused() -> Result<Rules, Error> {
    let always = REFUSED.iter().chain(REFUSED_HERE);
    let mut rules: Rules = always.map(|call| (*call, Vec::new())).collect();
    let new_user = libc::CLONE_NEWUSER.unsigned_abs().into();
    for call in [libc::SYS_clone, libc::SYS_unshare] {
        let flags = condition(0, Is::MaskedEq(new_user), new_user)?;
        rules.insert(call, vec![SeccompRule::new(vec![flags])?]);
    }
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        rules.insert(call, sockets()?);
    }
    let typing = [libc::TIOCSTI, libc::TIOCLINUX].map(|request| {
        let request = condition(1, Is::MaskedEq(u64::from(u32::MAX)), request)?;
        Ok(SeccompRule::new(vec![request])?)
    });
    let typing: Result<Vec<_>, Error> = typing.into_iter().collect();
    rules.insert(libc::SYS_ioctl, typing?);
    Ok(rules)
}

/// Any other family; and of the kernel's own sockets any but the one that tells addresses.
fn sockets() -> Result<Vec<SeccompRule>, Error> {
    let others: Result<Vec<_>, Error> = FAMILIES
        .iter()
        .map(|family| short(0, Is::Ne, u64::from(family.unsigned_abs())))
        .collect();
    let netlink = u64::from(libc::AF_NETLINK.unsigned_abs());
    let route = u64::from(libc::NETLINK_ROUTE.unsigned_abs());
    Ok(vec![
        SeccompRule::new(others?)?,
        SeccompRule::new(vec![short(0, Is::Eq, netlink)?, short(2, Is::Ne, route)?])?,
    ])
}

fn condition(argument: u8, is: Is, value: u64) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(argument, Length::Qword, is, value)?)
}

/// A condition on the half of an argument that the kernel looks at.
fn short(argument: u8, is: Is, value: u64) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(argument, Length::Dword, is, value)?)
}

/// Refuses the numbers of the x32 ABI, by which a deny-list is passed where the kernel has it
/// (`rust-vmm/seccompiler#74`).
fn without_x32() -> BpfProgram {
    /// `BPF_LD | BPF_W | BPF_ABS`
    const LOAD: u16 = 0x20;
    /// `BPF_JMP | BPF_JGE | BPF_K`
    const AT_LEAST: u16 = 0x35;
    /// `BPF_RET | BPF_K`
    const RETURN: u16 = 0x06;
    const X32: u32 = 0x4000_0000;
    let step = |code, (jt, jf), k| sock_filter { code, jt, jf, k };
    vec![
        step(LOAD, (0, 0), 0),
        step(AT_LEAST, (0, 1), X32),
        step(
            RETURN,
            (0, 0),
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs(),
        ),
        step(RETURN, (0, 0), libc::SECCOMP_RET_ALLOW),
    ]
}
