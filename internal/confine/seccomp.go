package confine

import (
	"errors"
	"slices"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// calls are the system calls that are left: first those of frames on their way, as kernels before
// 5.11 look through the list for each call; later ones only have to look whether it is one of the
// list.
var calls = []string{
	"ppoll", "poll", "sendto", "sendmsg", "recvfrom", "recvmsg", "recvmmsg", "sendmmsg", "futex", "epoll_pwait", "epoll_wait", "read", "write",
	"clock_gettime", "nanosleep", "clock_nanosleep", "getsockopt", "setsockopt", "sched_yield", "madvise", "rt_sigreturn", "tgkill", "getpid", "gettid",

	// sockets
	"accept", "accept4", "bind", "connect", "getpeername", "getsockname", "listen", "shutdown", "socket", "socketpair",
	// files
	"access", "chdir", "chmod", "close", "close_range", "copy_file_range", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fallocate", "fchmod",
	"fchmodat", "fchmodat2", "fcntl", "fdatasync", "flock", "fstat", "fstatfs", "fsync", "ftruncate", "getcwd", "getdents64", "ioctl", "lseek", "lstat",
	"mkdir", "mkdirat", "newfstatat", "open", "openat", "openat2", "pipe", "pipe2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2",
	"readlink", "readlinkat", "readv", "rename", "renameat", "renameat2", "rmdir", "sendfile", "splice", "stat", "statfs", "statx", "truncate",
	"umask", "unlink", "unlinkat", "writev",
	// waiting
	"epoll_create1", "epoll_ctl", "epoll_pwait2", "eventfd2", "pselect6", "select", "timerfd_create", "timerfd_gettime", "timerfd_settime",
	// memory
	"brk", "membarrier", "mincore", "mmap", "mprotect", "mremap", "munmap",
	// threads and signals
	"arch_prctl", "clone", "clone3", "exit", "exit_group", "get_robust_list", "getcpu", "kill", "pidfd_send_signal", "prctl", "restart_syscall", "rseq", "rt_sigaction",
	"rt_sigpending", "rt_sigprocmask", "rt_sigtimedwait", "sched_getaffinity", "sched_setaffinity", "set_robust_list", "set_tid_address",
	"sigaltstack", "tkill",
	// what there is
	"capget", "clock_getres", "getegid", "geteuid", "getgid", "getgroups", "getitimer", "getppid", "getrandom", "getrlimit", "getrusage", "gettimeofday",
	"getuid", "prlimit64", "setitimer", "sysinfo", "time", "timer_create", "timer_delete", "timer_settime", "uname",
}

// execution is what programs that are executed need besides.
var execution = []string{"execve", "execveat", "pidfd_open", "pidfd_getfd", "setpgid", "setsid", "vfork", "wait4", "waitid"}

// specAllow is SECCOMP_FILTER_FLAG_SPEC_ALLOW: kernels before 5.16 otherwise make all of the
// process slower, for the sake of programs that run foreign code.
const specAllow = seccomp.FilterFlag(unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW)

// restrictCalls leaves the system calls above. Others fail with EPERM.
func restrictCalls(execute bool) error {
	if !seccomp.Supported() {
		return errors.New("the kernel does not have it")
	}
	info, err := arch.GetInfo("")
	if err != nil {
		return err
	}
	names := calls
	if execute {
		names = slices.Concat(calls, execution)
	}
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, known := info.SyscallNames[name]
		return !known // not every architecture has every one
	})
	return seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync | specAllow,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionErrno,
			Syscalls:      []seccomp.SyscallGroup{{Action: seccomp.ActionAllow, Names: names}},
		},
	})
}
