package scheduler

import "testing"

// TestReadsRequest: a scheduler that says that it does not read the request can do without.
func TestReadsRequest(t *testing.T) {
	blind := map[string]bool{"rr": true, "wrr": true, "lc": true, "wlc": true, "sed": true, "nq": true, "fo": true, "ovf": true, "twos": true}
	for _, name := range Names() {
		s, err := Build(name, Options{}, []Destination{{Weight: 1, Load: &Load{}}, {Weight: 2, Load: &Load{}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Take(nil)
		if ReadsRequest(s) == blind[name] {
			t.Errorf("%s: reads the request is %v", name, !blind[name])
		}
		if !ReadsRequest(s) && s.Schedule(nil) == None {
			t.Errorf("%s chooses nobody", name)
		}
	}
}
