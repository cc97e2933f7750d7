package verbs

import (
	"errors"
	"net"
	"strings"
	"testing"
)

func TestWhichDeviceIsMeant(t *testing.T) {
	bad := candidate{name: "down", err: errors.New("down, port 1 is not active")}
	ib0, ib1, roce := candidate{name: "ib0"}, candidate{name: "ib1"}, candidate{name: "roce0", exact: true}
	for _, c := range []struct {
		name  string
		found []candidate
		want  int
		err   string // parts of it
	}{
		{"by its address", []candidate{bad, roce}, 1, ""},
		{"by its address, though InfiniBand is there", []candidate{ib0, ib1, roce}, 2, ""},
		{"the only one on InfiniBand", []candidate{bad, ib1}, 1, ""},
		{"several on InfiniBand", []candidate{ib0, bad, ib1}, 0, "ib0, ib1|--device"},
		{"none", []candidate{bad}, 0, "10.0.0.1|not active"},
	} {
		got, err := pick(c.found, net.IPv4(10, 0, 0, 1))
		if (err != nil) != (c.err != "") || err == nil && got != c.want {
			t.Errorf("%s: %d, %v", c.name, got, err)
			continue
		}
		for part := range strings.SplitSeq(c.err, "|") {
			if err != nil && !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v; want %q in it", c.name, err, part)
			}
		}
	}
}
