package ipvsadm

// An excuse names events of the traces that are not, or not wholly, as ipvsadm has them, and says
// why.
type goldenExcuse struct {
	n        int // how many, neither more nor fewer
	scenario string
	text     string // a part of the command line
	listing  bool   // only the lines of refused realservers are missing; all others are compared
	reason   string
}

const (
	refusal  = "refused: there is direct routing only"
	outgoing = "the kernel counts as OutPkts the ICMP errors of its own host, which no director of direct routing sees; the other columns are the same to the byte"
	missing  = "without the lines of realservers that were refused; the others are the same to the byte"
)

var goldenExcuses = []goldenExcuse{
	{2, "10", "snap after: ipvsadm -Ln --stats", true, outgoing},
	{1, "10", "snap after: ipvsadm -Ln --rate", true, outgoing},
	{2, "12", "snap after: ipvsadm -Ln --stats", true, outgoing},
	{1, "12", "snap after: ipvsadm -Ln --rate", true, outgoing},
	{1, "10", " -m", false, refusal},
	{1, "10", " -i", false, refusal},
	{1, "10", "ipvsadm -Ln", true, missing},
	{1, "10", "ipvsadm -S -n", true, missing},
	{1, "14", "10.77.0.11:80 -m -w 5", false, refusal + ", before the director can say that it has the realserver"},
	{2, "14", " -m", false, refusal},
	{3, "14", " -i", false, refusal},
	{5, "14", "ipvsadm -Ln", true, missing},
	{1, "14", "ipvsadm -S -n", true, missing},
	{1, "15", " -i", false, refusal},
}
