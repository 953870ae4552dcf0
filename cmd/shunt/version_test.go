package main

import (
	"os/exec"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
)

// The version is a semantic one, with the commit if that is known.
func TestVersion(t *testing.T) {
	semantic := regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
	info := func(revision, modified string) *debug.BuildInfo {
		return &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: modified}}}
	}
	for _, x := range []struct {
		info *debug.BuildInfo
		ok   bool
		want string
	}{
		{nil, false, ""}, {&debug.BuildInfo{}, true, ""}, {info("0123456789abcdef", "false"), true, "+0123456789ab"},
		{info("0123456789abcdef", "true"), true, "+0123456789ab.dirty"},
	} {
		if got := builtFrom(x.info, x.ok); got != x.want {
			t.Errorf("%v: %q, want %q", x.info, got, x.want)
		}
		if v := strings.TrimSpace(release) + x.want; !semantic.MatchString(v) {
			t.Errorf("%q is not a semantic version", v)
		}
	}
}

// The version of the packages follows from the same file, and upgrades sort upwards: from the
// versions of before, which began with 0~ and a date, over builds before the release to the
// release.
func TestPackageVersion(t *testing.T) {
	out, err := exec.Command("make", "-s", "-C", "../..", "package-version").Output()
	if err != nil {
		t.Fatal(err)
	}
	version := strings.TrimSpace(string(out))
	base, _, dev := strings.Cut(strings.TrimSpace(release), "-")
	if want := base; !strings.HasPrefix(version, want) || dev && !strings.HasPrefix(version, want+"~dev2") || strings.Contains(version, "-") {
		t.Errorf("the package's version is %q, and the program's %q", version, release)
	}
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		return // no Debian: it is tested on one
	}
	order := []string{"0~20260930120000", "0~20261128162100", version}
	if dev {
		order = append(order, base+"~dev99991231235959", base)
	}
	for i := 1; i < len(order); i++ {
		if err := exec.Command(dpkg, "--compare-versions", order[i-1], "lt", order[i]).Run(); err != nil {
			t.Errorf("%s does not sort below %s: %v", order[i-1], order[i], err)
		}
	}
}
