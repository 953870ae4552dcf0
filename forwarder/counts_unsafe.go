package forwarder

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	countsMagic   = 0x746e756f63687300
	countsVersion = 1
	countsPage    = 4096
	countsVerdict = 1024 // where the verdicts begin, in the first page
	maxCounted    = 1 << 20
	reserveStep   = 4096 // counts at a time
)

// A counters is the counters of one worker, or what is hidden of them by ipvsadm -Z: a file that
// the next process takes over, or memory of this one if file is nil.
type counters struct {
	file     *os.File
	mem      []byte
	verdicts *[NumVerdicts]uint64
	services []Counts // room for all there can be; only as many as reserved may be touched
	dests    []Counts
	reserved [2]int
}

type countsHead struct {
	magic    uint64
	version  uint32
	verdicts uint32 // checksum of the verdicts' names
	seed     [2]uint64
}

func headOfCounts(seed [2]uint64) countsHead {
	var names string
	for v := range NumVerdicts {
		names += v.String() + "\n"
	}
	return countsHead{countsMagic, countsVersion, crc32.ChecksumIEEE([]byte(names)), seed}
}

const (
	countSize   = int(unsafe.Sizeof(Counts{}))
	servicesEnd = countsPage + maxServices*countSize
	countsSize  = servicesEnd + maxCounted*countSize
)

// newCounters maps the counters in f, made by a process with the given seed; others start at zero,
// and so do verdicts if other verdicts are counted.
func newCounters(f *os.File, seed [2]uint64) (*counters, error) {
	if f == nil {
		mem, err := unix.Mmap(-1, 0, countsSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
		if err != nil {
			return nil, fmt.Errorf("%d bytes for counters: %w", countsSize, err)
		}
		return countersIn(nil, mem), nil
	}
	want := headOfCounts(seed)
	found := countsHead{}
	_, err := f.ReadAt(unsafe.Slice((*byte)(unsafe.Pointer(&found)), unsafe.Sizeof(found)), 0)
	sameVerdicts := found.verdicts == want.verdicts
	found.verdicts = want.verdicts
	if info, e := f.Stat(); err != nil || e != nil || info.Size() != int64(countsSize) || found != want {
		sameVerdicts = true
		if err := errors.Join(f.Truncate(0), f.Truncate(int64(countsSize))); err != nil {
			return nil, err
		}
	}
	if err := allocate(f, 0, countsPage); err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, countsSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	c := countersIn(f, mem)
	if !sameVerdicts {
		*c.verdicts = [NumVerdicts]uint64{}
	}
	*(*countsHead)(unsafe.Pointer(unsafe.SliceData(c.mem))) = want
	return c, nil
}

// countersIn finds the counters in the memory that they have.
func countersIn(f *os.File, mem []byte) *counters {
	base := unsafe.Pointer(unsafe.SliceData(mem))
	return &counters{
		file: f, mem: mem, verdicts: (*[NumVerdicts]uint64)(unsafe.Add(base, countsVerdict)),
		services: unsafe.Slice((*Counts)(unsafe.Add(base, countsPage)), maxServices),
		dests:    unsafe.Slice((*Counts)(unsafe.Add(base, servicesEnd)), maxCounted),
	}
}

// allocate has pages of the file, if there is one, made now: see mapArena in package flow.
func allocate(f *os.File, from, to int) error {
	if f == nil {
		return nil
	}
	err := unix.Fallocate(int(f.Fd()), 0, int64(from), int64(to-from))
	if err != nil && err != unix.EOPNOTSUPP {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	return nil
}

// reserve makes room for so many counts, as far as there is, beside the worker: its part in growing
// is only to look at more of it.
func (c *counters) reserve(services, dests int) {
	c.room(0, min(services, len(c.services)))
	c.room(1, min(dests, len(c.dests)))
}

// room makes room for n counts of a part and reports whether there is.
func (c *counters) room(part, n int) bool {
	if n <= c.reserved[part] {
		return true
	}
	start, all := countsPage, len(c.services)
	if part == 1 {
		start, all = servicesEnd, len(c.dests)
	}
	to := min((n+reserveStep-1)/reserveStep*reserveStep, all)
	from, end := start+c.reserved[part]*countSize, start+to*countSize
	if n > to || allocate(c.file, from, end) != nil {
		return false
	}
	// The pages are touched here rather than by the worker; where the kernel cannot do that, they
	// come one by one.
	_ = unix.Madvise(c.mem[from&^(countsPage-1):end], unix.MADV_POPULATE_WRITE)
	c.reserved[part] = to
	return true
}

// growServices and growDests return room for n counts that go on with those of old; if there is
// none in the file, then elsewhere, and the next process starts from what was counted until now.
func (c *counters) growServices(old []Counts, n int) []Counts { return c.grow(0, c.services, old, n) }
func (c *counters) growDests(old []Counts, n int) []Counts    { return c.grow(1, c.dests, old, n) }

func (c *counters) grow(part int, all, old []Counts, n int) []Counts {
	if n <= len(old) {
		return old
	}
	inPlace := len(old) == 0 || len(all) > 0 && &old[0] == &all[0]
	if inPlace && c.room(part, n) {
		return all[:n]
	}
	return append(old[:len(old):len(old)], make([]Counts, n-len(old))...)
}

// holds reports whether an address is in the counters.
func (c *counters) holds(addr uintptr) bool {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(c.mem)))
	return addr >= start && addr-start < uintptr(len(c.mem))
}

// renew puts memory of the process, with counters at zero, in the place of a file that was cut.
// Addresses stay what they are.
func (c *counters) renew() error {
	at, long := unsafe.Pointer(unsafe.SliceData(c.mem)), uintptr(countsSize+countsPage-1)&^(countsPage-1)
	flags := unix.MAP_ANON | unix.MAP_PRIVATE | unix.MAP_NORESERVE | unix.MAP_FIXED
	if _, err := unix.MmapPtr(-1, 0, at, long, unix.PROT_READ|unix.PROT_WRITE, flags); err != nil {
		return fmt.Errorf("%d bytes for counters: %w", countsSize, err)
	}
	c.file = nil
	return nil
}

func (c *counters) close() error {
	if c.mem == nil {
		return nil
	}
	mem := c.mem
	*c = counters{verdicts: new([NumVerdicts]uint64)}
	return unix.Munmap(mem)
}
