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

// A counters is the counters of one worker, or what is hidden of them by ipvsadm -Z: a file that the next process takes
// over, or memory of this one if file is nil.
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

// newCounters maps the counters in f, made by a process with the given seed; others start at zero, and so do verdicts
// if other verdicts are counted.
func newCounters(f *os.File, seed [2]uint64) (*counters, error) {
	if f == nil {
		return &counters{verdicts: new([NumVerdicts]uint64)}, nil
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
	c := &counters{file: f}
	if err := c.allocate(0, countsPage); err != nil {
		return nil, err
	}
	c.mem, err = unix.Mmap(int(f.Fd()), 0, countsSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	base := unsafe.Pointer(unsafe.SliceData(c.mem))
	c.verdicts = (*[NumVerdicts]uint64)(unsafe.Add(base, countsVerdict))
	c.services = unsafe.Slice((*Counts)(unsafe.Add(base, countsPage)), maxServices)
	c.dests = unsafe.Slice((*Counts)(unsafe.Add(base, servicesEnd)), maxCounted)
	if !sameVerdicts {
		*c.verdicts = [NumVerdicts]uint64{}
	}
	*(*countsHead)(base) = want
	return c, nil
}

// allocate has pages of the file made now: see mapArena in package flow.
func (c *counters) allocate(from, to int) error {
	err := unix.Fallocate(int(c.file.Fd()), 0, int64(from), int64(to-from))
	if err != nil && err != unix.EOPNOTSUPP {
		return fmt.Errorf("%s: %w", c.file.Name(), err)
	}
	return nil
}

// growServices and growDests return room for n counts that go on with those of old; if there is none in the file, in
// memory, and then the next process starts from what was counted until now.
func (c *counters) growServices(old []Counts, n int) []Counts { return c.grow(0, c.services, old, n) }
func (c *counters) growDests(old []Counts, n int) []Counts    { return c.grow(1, c.dests, old, n) }

func (c *counters) grow(part int, all, old []Counts, n int) []Counts {
	if n <= len(old) {
		return old
	}
	inFile := len(old) == 0 || len(all) > 0 && &old[0] == &all[0]
	if inFile && n <= len(all) {
		if n <= c.reserved[part] {
			return all[:n]
		}
		start, to := [2]int{countsPage, servicesEnd}[part], min((n+reserveStep-1)/reserveStep*reserveStep, len(all))
		if c.allocate(start+c.reserved[part]*countSize, start+to*countSize) == nil {
			c.reserved[part] = to
			return all[:n]
		}
	}
	return append(old[:len(old):len(old)], make([]Counts, n-len(old))...)
}

func (c *counters) close() error {
	if c.mem == nil {
		return nil
	}
	mem := c.mem
	*c = counters{verdicts: new([NumVerdicts]uint64)}
	return unix.Munmap(mem)
}
