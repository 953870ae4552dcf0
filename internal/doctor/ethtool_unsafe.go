package doctor

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value of linux/ethtool.h.
type ethtoolValue struct{ cmd, data uint32 }

const (
	ethtoolGetFlags = 0x25 // ETHTOOL_GFLAGS
	ethtoolFlagLRO  = 1 << 15
)

// hasLRO asks the driver whether it joins received frames in a way that cannot be undone
// (ETH_FLAG_LRO).
func hasLRO(name string) (bool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	v := ethtoolValue{cmd: ethtoolGetFlags}
	var req struct { // struct ifreq of linux/if.h, with ifr_data
		name [unix.IFNAMSIZ]byte
		data uintptr
		rest [16]byte
	}
	copy(req.name[:unix.IFNAMSIZ-1], name)
	var pin runtime.Pinner // the kernel writes through an address that the garbage collector does not see
	pin.Pin(&v)
	defer pin.Unpin()
	req.data = uintptr(unsafe.Pointer(&v))
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return false, errno
	}
	return v.data&ethtoolFlagLRO != 0, nil
}
