package scheduler

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// TestHashesAgainstKernel builds the tables of sh, dh and mh as the kernel's loops over list
// pointers do, for random lists and weights, and compares lookups of random clients.
func TestHashesAgainstKernel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []Destination
		for i := range rapid.IntRange(1, 40).Draw(t, "realservers") {
			w := rapid.SampledFrom([]int32{0, 1, 1, 2, 3, 10, 250, 1000}).Draw(t, "weight")
			d := Destination{ID: uint32(i), Addr: netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}), Port: 80, Weight: w, LastWeight: w, Load: new(Load)}
			if w == 0 && rapid.Bool().Draw(t, "drained") {
				d.LastWeight = 3
			}
			d.Load.SetUnreachable(rapid.IntRange(0, 9).Draw(t, "out") == 0)
			list = append([]Destination{d}, list...)
		}
		flags := Flags(rapid.IntRange(0, 3).Draw(t, "flags"))
		tables := map[string][]*Destination{"sh": kernelSH(list), "dh": kernelDH(list), "mh": kernelMH(list)}
		for name, table := range tables {
			s, err := Build(name, Options{Flags: flags}, list, nil)
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				r := Request{Client: netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "client"))), ClientPort: rapid.Uint16().Draw(t, "port"),
					Virtual: netip.AddrFrom4([4]byte{203, 0, 113, rapid.Byte().Draw(t, "VIP")})}
				want := kernelLookup(name, table, flags, &r)
				got := s.Schedule(&r)
				if want == nil && got != None || want != nil && (got == None || list[got].ID != want.ID) {
					t.Fatalf("%s, flags %d: %s went to place %d, the kernel says %+v", name, flags, r.Client, got, want)
				}
			}
		}
	})
}

// kernelSH is ip_vs_sh_reassign.
func kernelSH(list []Destination) []*Destination {
	table := make([]*Destination, 256)
	p, count := 0, int32(0)
	for b := range table {
		table[b] = &list[p]
		if count++; count >= list[p].Weight {
			p, count = (p+1)%len(list), 0
		}
	}
	return table
}

// kernelDH is ip_vs_dh_reassign.
func kernelDH(list []Destination) []*Destination {
	table := make([]*Destination, 256)
	for b := range table {
		table[b] = &list[b%len(list)]
	}
	return table
}

// kernelMH is ip_vs_mh_permutate and ip_vs_mh_populate, with a bitmap of the places that are taken.
func kernelMH(list []Destination) []*Destination {
	type setup struct{ offset, skip, perm, turns int }
	g, highest := 0, 0
	for i := range list {
		w := int(list[i].LastWeight)
		for a, b := g, w; w > 0; a, b = b, a%b {
			if b == 0 {
				g = a
				break
			}
		}
		highest = max(highest, w)
	}
	if g < 1 {
		return nil
	}
	shift := 0
	for n := highest / g; n > 0; n >>= 1 {
		shift++
	}
	shift = max(shift-6, 0)
	ds := make([]setup, len(list))
	for i := range list {
		key := fold(list[i].Addr) + uint32(list[i].Port)
		ds[i].offset = int(siphash13(key, 2654435761) % 4093)
		ds[i].skip = int(siphash13(key, 2654446892)%4092) + 1
		ds[i].perm = ds[i].offset
		if ds[i].turns = int(list[i].LastWeight) / g >> shift; ds[i].turns == 0 && list[i].LastWeight != 0 {
			ds[i].turns = 1
		}
	}
	table := make([]*Destination, 4093)
	taken := map[int]bool{}
	for n, count := 0, 0; n < 4093; {
		for p := 0; p < len(list) && n < 4093; {
			if ds[p].turns < 1 {
				p++
				continue
			}
			for taken[ds[p].perm] {
				if ds[p].perm += ds[p].skip; ds[p].perm >= 4093 {
					ds[p].perm -= 4093
				}
			}
			taken[ds[p].perm] = true
			table[ds[p].perm] = &list[p]
			n++
			if count++; count >= ds[p].turns {
				count = 0
				p++
			}
		}
	}
	return table
}

// kernelLookup is ip_vs_sh_get, ip_vs_sh_get_fallback and their likes.
func kernelLookup(name string, table []*Destination, flags Flags, r *Request) *Destination {
	if table == nil {
		return nil
	}
	up := func(d *Destination) bool { return d.Weight > 0 && d.Load.Available() }
	port := uint32(0)
	if flags&Port != 0 {
		port = uint32(r.ClientPort)
	}
	var key func(offset uint32) uint32
	switch name {
	case "dh":
		if d := table[fold(r.Virtual)*0x61c88647>>24]; up(d) {
			return d
		}
		return nil
	case "sh":
		key = func(offset uint32) uint32 { return (offset + (port+fold(r.Client))*0x61c88647>>24) & 255 }
	default:
		key = func(offset uint32) uint32 { return siphash13(offset+port+fold(r.Client), 2654435761) % 4093 }
	}
	if d := table[key(0)]; up(d) {
		return d
	}
	if flags&Fallback == 0 {
		return nil
	}
	hash := key(0)
	if name == "mh" {
		hash = siphash13(port+fold(r.Client), 2654435761)
	}
	size := uint32(len(table))
	for offset := range size {
		if d := table[key((offset+hash)%size)]; up(d) {
			return d
		}
	}
	return nil
}
