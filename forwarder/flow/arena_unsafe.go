package flow

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// arena is the table's memory: one anonymous mapping, seen as the arrays that it holds. The kernel gives pages when
// they are first touched, so a large table that is hardly used, and the IPv6 part of one that sees IPv4, cost little.
type arena struct {
	mem     []byte
	head    *header
	lines   []line
	entries []Entry
	ext     []frame.Addr
}

// mapArena maps memory for the given number of buckets. Close it by unmap.
func mapArena(buckets int) (*arena, error) {
	slots := buckets * bucketSlots
	offLines := headerSize
	offEntries := offLines + buckets*int(unsafe.Sizeof(line{}))
	offExt := offEntries + slots*int(unsafe.Sizeof(Entry{}))
	size := offExt + slots*int(unsafe.Sizeof(frame.Addr{}))
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map %d MiB for the connection table: %w", size>>20, err)
	}
	// Random lookups miss the TLB less with huge pages. Not every kernel has them, and nothing depends on it.
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE)
	base := unsafe.Pointer(unsafe.SliceData(mem))
	a := &arena{
		mem:     mem,
		head:    (*header)(base),
		lines:   unsafe.Slice((*line)(unsafe.Add(base, offLines)), buckets),
		entries: unsafe.Slice((*Entry)(unsafe.Add(base, offEntries)), slots),
		ext:     unsafe.Slice((*frame.Addr)(unsafe.Add(base, offExt)), slots),
	}
	*a.head = header{
		Magic: magic, Version: version, EntrySize: uint32(unsafe.Sizeof(Entry{})), LineSize: uint32(unsafe.Sizeof(line{})),
		Buckets: uint64(buckets), OffLines: uint64(offLines), OffEntries: uint64(offEntries), OffExt: uint64(offExt),
		Size: uint64(size),
	}
	return a, nil
}

func (a *arena) unmap() error {
	if a.mem == nil {
		return nil
	}
	mem := a.mem
	*a = arena{}
	return unix.Munmap(mem)
}
