package verbs

import (
	"fmt"
	"net"
	"strings"
)

// candidate is a device that was asked for a place for an endpoint.
type candidate struct {
	name  string
	exact bool  // it has the listening address; otherwise it is on InfiniBand, where that says nothing
	err   error // why not
}

// pick is the index of the one that is meant. The address decides; where it does not, there is to be one only: which network
// the members are to meet on is not to be guessed.
func pick(found []candidate, listen net.IP) (int, error) {
	var others []int
	var why, names []string
	for i, c := range found {
		switch {
		case c.err != nil:
			why = append(why, c.err.Error())
		case c.exact:
			return i, nil
		default:
			others, names = append(others, i), append(names, c.name)
		}
	}
	switch len(others) {
	case 0:
		return 0, fmt.Errorf("verbs: no RDMA device for %s: %s", listen, strings.Join(why, "; "))
	case 1:
		return others[0], nil
	}
	return 0, fmt.Errorf("verbs: no RDMA device has the address %s, and there are several on InfiniBand: %s: choose one with --device", listen, strings.Join(names, ", "))
}
