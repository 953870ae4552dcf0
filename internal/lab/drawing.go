package lab

// The drawing of the topology, for a page of 420 units' width, so that it can be read on a phone:
// hosts are boxes, switches are bars, cables stand upright, and the steps of the trail are numbered
// where they pass.

// drawing is what the template draws.
type drawing struct {
	Height   int
	Boxes    []box
	Switches []bar
	Cables   []cable
}

type box struct {
	X, Y, H int
	Name    string
	Lines   []string
	Role    string // class of its colour
}

type bar struct {
	Y    int
	Name string
}

// cable goes from a switch to a host. Its badges are the numbers of the steps on it.
type cable struct {
	X, Y1, Y2 int
	Badges    []badge
}

type badge struct {
	X, Y, Number int
	Back         bool
}

const (
	boxWidth = 200
	lineStep = 16
)

// draw lays out the laboratory, with the steps of a connection to realserver web.
func (s *session) draw(web string) drawing {
	var d drawing
	families := func(v4, v6 []string) []string {
		if s.net.V6 {
			return append(v4, v6...)
		}
		return v4
	}
	client := box{Name: "client and gateway", Role: "client", Lines: append(families([]string{ClientIP, GatewayIP + " (gateway)"}, []string{ClientIP6, GatewayIP6}), clientMAC)}
	director := box{Name: "director", Role: "director", Lines: append(families([]string{"VIP " + VIP, "DIP " + DIP}, []string{"VIP " + VIP6, "DIP " + DIP6}), DirectorMAC)}
	webs := make([]box, 2)
	for i := range webs {
		webs[i] = box{Name: s.net.Webs[i].Name, Role: "web", Lines: append(families([]string{"RIP " + RIP(i+1), "VIP on lo"}, []string{"RIP " + RIP6(i+1), "VIP on lo"}), MAC(i+1))}
	}
	y := 4
	row := func(left, right box) (bottom int) {
		h := 34 + lineStep*max(len(left.Lines), len(right.Lines))
		left.X, right.X = 4, 216
		left.Y, right.Y, left.H, right.H = y, y, h, h
		d.Boxes = append(d.Boxes, left, right)
		return y + h
	}
	cables := func(y1, y2 int, leftThere, leftBack, rightThere, rightBack []int) {
		d.Cables = append(d.Cables, newCable(104, y1, y2, leftThere, leftBack), newCable(316, y1, y2, rightThere, rightBack))
	}
	const gap, thick = 44, 26
	second := web == s.net.Webs[1].Name
	pick := func(there, back []int) (lt, lb, rt, rb []int) {
		if second {
			return nil, nil, there, back
		}
		return there, back, nil, nil
	}
	if s.Topology == "one-arm" {
		b := row(client, director)
		cables(b, b+gap, []int{1}, []int{6}, []int{2, 3}, nil)
		d.Switches = append(d.Switches, bar{b + gap, "one learning switch"})
		y = b + gap + thick + gap
		lt, lb, rt, rb := pick([]int{4}, []int{5})
		cables(b+gap+thick, y, lt, lb, rt, rb)
		d.Height = row(webs[0], webs[1]) + 4
		return d
	}
	client.Name, client.Lines = "client", append(families([]string{ClientIP}, []string{ClientIP6}), clientMAC)
	director.Lines = append(families([]string{"VIP " + VIP, "DIP " + DIP}, []string{"VIP " + VIP6}), DirectorMAC, privateMAC)
	router := box{Name: "router and gateway", Role: "client", Lines: families([]string{RouterIP, GatewayIP + " (gateway)"}, []string{RouterIP6, GatewayIP6})}
	h := 34 + lineStep*len(client.Lines)
	client.X, client.Y, client.H = 110, y, h
	d.Boxes = append(d.Boxes, client)
	b := y + h
	d.Cables = append(d.Cables, newCable(210, b, b+gap, []int{1}, []int{8}))
	d.Switches = append(d.Switches, bar{b + gap, "public switch"})
	y = b + gap + thick + gap
	cables(b+gap+thick, y, []int{2}, nil, nil, []int{7})
	b = row(director, router)
	cables(b, b+gap, []int{3}, nil, nil, []int{6})
	d.Switches = append(d.Switches, bar{b + gap, "private switch"})
	y = b + gap + thick + gap
	lt, lb, rt, rb := pick([]int{4}, []int{5})
	cables(b+gap+thick, y, lt, lb, rt, rb)
	d.Height = row(webs[0], webs[1]) + 4
	return d
}

// newCable puts the badges beside each other in the middle.
func newCable(x, y1, y2 int, there, back []int) cable {
	c := cable{X: x, Y1: y1, Y2: y2}
	at := x - 13*(len(there)+len(back)-1)
	for _, n := range there {
		c.Badges = append(c.Badges, badge{at, (y1 + y2) / 2, n, false})
		at += 26
	}
	for _, n := range back {
		c.Badges = append(c.Badges, badge{at, (y1 + y2) / 2, n, true})
		at += 26
	}
	return c
}
