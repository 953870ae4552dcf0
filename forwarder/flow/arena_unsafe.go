package flow

import (
	"errors"
	"fmt"
	"hash/crc64"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"shunt/forwarder/frame"
)

// arena is the table's memory: one mapping, seen as the arrays that it holds. All but the IPv6 part
// is there from the start, see mapArena; the IPv6 part of a table that sees IPv4 only costs
// nothing.
type arena struct {
	at   layout
	mem  []byte
	file *os.File // nil: anonymous
	head *header
	copy header // what the head was when the table was made
	all  []bucket
	ext  []frame.Addr
}

// bucketSize is what the loops in prefetch_amd64.s count on; neither of the arrays can have a
// length below 0.
const bucketSize = 576

var (
	_ [bucketSize - unsafe.Sizeof(bucket{})]byte
	_ [unsafe.Sizeof(bucket{}) - bucketSize]byte
)

// layout is where in the memory things are.
type layout struct{ buckets, slots, all, ext, size int }

func layoutOf(buckets int) layout {
	l := layout{buckets: buckets, slots: buckets * bucketSlots, all: headerSize}
	l.ext = l.all + buckets*int(unsafe.Sizeof(bucket{}))
	l.size = l.ext + l.slots*int(unsafe.Sizeof(frame.Addr{}))
	return l
}

// header is what the head of such a table says, without what changes.
func (l layout) header() header {
	return header{
		Magic: magic, Version: version, EntrySize: uint32(unsafe.Sizeof(Entry{})), LineSize: uint32(unsafe.Sizeof(line{})),
		Buckets: uint64(l.buckets), OffBuckets: uint64(l.all), OffExt: uint64(l.ext), Size: uint64(l.size),
	}
}

// sum is the checksum over what never changes of a header.
func (h *header) sum() uint64 {
	b := unsafe.Slice((*byte)(unsafe.Pointer(h)), unsafe.Offsetof(h.Sum))
	return crc64.Checksum(b, crc64.MakeTable(crc64.ECMA))
}

// mapArena maps memory for the given number of buckets: of f, which it makes as long as need be, or
// anonymous if f is nil. Close it by unmap.
//
// The pages are had from the kernel here. Hashing spreads even a few flows over all of them, and a
// batch of frames each of which was the first to touch a huge page would wait until 64 of them are
// found and cleared, which takes ten milliseconds and more; and a tmpfs that is full when a page is
// first touched ends the process by SIGBUS. Those of IPv6 are left out until reserveIPv6.
func mapArena(buckets int, f *os.File) (*arena, error) {
	l := layoutOf(buckets)
	flags, fd := unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE, -1
	if f != nil {
		flags, fd = unix.MAP_SHARED, int(f.Fd())
		if err := unix.Ftruncate(fd, int64(l.size)); err != nil {
			return nil, fmt.Errorf("%s: %d MiB for the connection table: %w", f.Name(), l.size>>20, err)
		}
	}
	mem, err := mapAligned(fd, l.size, flags)
	if err != nil {
		return nil, fmt.Errorf("map %d MiB for the connection table: %w", l.size>>20, err)
	}
	// Random lookups miss the TLB less with huge pages. Not every kernel has them, or for every
	// file, and nothing depends on it.
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE)
	if f != nil {
		if err := allocate(f, 0, l.ext); err != nil {
			return nil, errors.Join(err, unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(mem)), uintptr(len(mem))))
		}
	}
	populate(mem[:l.ext])
	if f != nil {
		// A tmpfs is rarely mounted so that the first advice is enough for it; but it makes huge
		// pages of small ones if told to. Since Linux 6.1. It takes some 4 ms a MiB, once in the
		// life of a file.
		_ = unix.Madvise(mem[:l.ext], unix.MADV_COLLAPSE)
	}
	base := unsafe.Pointer(unsafe.SliceData(mem))
	return &arena{
		at: l, mem: mem, file: f,
		head: (*header)(base),
		all:  unsafe.Slice((*bucket)(unsafe.Add(base, l.all)), l.buckets),
		ext:  unsafe.Slice((*frame.Addr)(unsafe.Add(base, l.ext)), l.slots),
	}, nil
}

// hugePage is what a huge page's place in a file and in memory are multiples of, and page the same
// of others.
const (
	hugePage = 2 << 20
	page     = 4096
)

// mapAligned is mmap to an address at which there can be huge pages. The kernel chooses such a one
// by itself for anonymous memory only, so we take enough address space, and give back what is over
// at both ends.
func mapAligned(fd, size, flags int) ([]byte, error) {
	long := uintptr(size+page-1) &^ (page - 1)
	start, err := unix.MmapPtr(-1, 0, nil, long+hugePage, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	before := -uintptr(start) & (hugePage - 1)
	at, err := unix.MmapPtr(fd, 0, unsafe.Add(start, before), long, unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_FIXED)
	if err != nil {
		return nil, errors.Join(err, unix.MunmapPtr(start, long+hugePage))
	}
	if before > 0 {
		err = unix.MunmapPtr(start, before)
	}
	if before < hugePage {
		err = errors.Join(err, unix.MunmapPtr(unsafe.Add(at, long), hugePage-before))
	}
	return unsafe.Slice((*byte)(at), size), err
}

// populate has the kernel give memory its pages, if it is Linux 5.14 or later; else it does when
// they are touched. What is there already stays as it is.
func populate(mem []byte) { _ = unix.Madvise(mem, unix.MADV_POPULATE_WRITE) }

// allocate has a file's pages made now, or says that there is no room for them.
func allocate(f *os.File, from, to int) error {
	err := unix.Fallocate(int(f.Fd()), 0, int64(from), int64(to-from))
	if err != nil && err != unix.EOPNOTSUPP { // a file system that is no tmpfs may not be able to
		return fmt.Errorf("%s: %d MiB for the connection table: %w", f.Name(), (to-from)>>20, err)
	}
	return nil
}

// reserveIPv6 makes sure that there are pages for the IPv6 part. The table may be in use meanwhile,
// but has no IPv6 flows yet.
func (a *arena) reserveIPv6() (err error) {
	if a.file != nil {
		if err = allocate(a.file, a.at.ext, a.at.size); err != nil {
			// The page in which the part begins has buckets too, and is there.
			if e := a.own((a.at.ext + page - 1) &^ (page - 1)); e != nil {
				return errors.Join(err, e)
			}
			err = fmt.Errorf("%w: %w", ErrOwnMemory, err)
		}
	}
	populate(a.mem[a.at.ext&^(page-1):])
	return err
}

// own puts empty memory of the process in the place of the file's, from a page on. Addresses stay
// what they are.
func (a *arena) own(from int) error {
	if from >= a.at.size {
		return nil
	}
	at := unsafe.Add(unsafe.Pointer(unsafe.SliceData(a.mem)), from)
	long := uintptr(a.at.size-from+page-1) &^ (page - 1)
	flags := unix.MAP_ANON | unix.MAP_PRIVATE | unix.MAP_NORESERVE | unix.MAP_FIXED
	if _, err := unix.MmapPtr(-1, 0, at, long, unix.PROT_READ|unix.PROT_WRITE, flags); err != nil {
		return fmt.Errorf("map %d MiB for the connection table: %w", long>>20, err)
	}
	return nil
}

// holds reports whether an address is in the arena.
func (a *arena) holds(addr uintptr) bool {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(a.mem)))
	return addr >= start && addr-start < uintptr(len(a.mem))
}

// renew puts empty memory of the process in the place of all there was, with a head that tells of
// the same table.
func (a *arena) renew() error {
	if err := a.own(0); err != nil {
		return err
	}
	a.file = nil
	*a.head = a.copy
	a.head.Count = Counters{}
	return nil
}

func (a *arena) unmap() error {
	if a.mem == nil {
		return nil
	}
	mem := a.mem
	*a = arena{}
	return unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(mem)), uintptr(len(mem)))
}

// headerBytes is the size of a header.
const headerBytes = int(unsafe.Sizeof(header{}))

// headerOf is the header in a copy of its bytes.
func headerOf(b []byte) *header {
	h := new(header)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(h)), headerBytes), b)
	return h
}
