package ring

import (
	"sync/atomic"
	"unsafe"
)

// word returns tp_status of the slot at off. Slicing panics where off is outside of mem; all
// offsets come from a geometry, none from the ring. An index would do as well, but the race
// detector takes it for a plain read.
func word(mem []byte, off int) *uint32 {
	return (*uint32)(unsafe.Pointer(unsafe.SliceData(mem[off : off+4 : len(mem)])))
}

// loadStatus reads tp_status: what the kernel wrote to the slot before it set the status is seen
// after.
func loadStatus(mem []byte, off int) uint32 { return atomic.LoadUint32(word(mem, off+offStatus)) }

// storeStatus writes tp_status: all uses of the slot before come before the kernel sees it.
func storeStatus(mem []byte, off int, v uint32) { atomic.StoreUint32(word(mem, off+offStatus), v) }
