//go:build linux

package main

import (
	"errors"
	"strings"
	"testing"

	"whale/fabric/verbs"
)

// TestFabricList: the list says what is there, what it is good for, and why what is not there is not.
func TestFabricList(t *testing.T) {
	full := verbs.Device{
		Name: "mlx5_0", Vendor: 0x2c9, Firmware: "20.1", QueueDepth: 100, Atomics: true, FlushVisible: true, FlushDurable: true, AtomicWrite: true,
		Ports: []verbs.Port{{Number: 1, Active: true, Link: "Ethernet", GIDs: []verbs.GID{{Index: 3, Type: "RoCE v2", Addr: "10.0.0.1"}, {Index: 0, Type: "RoCE v1", Addr: "10.0.0.9"}}}},
	}
	bare := verbs.Device{Name: "old", Ports: []verbs.Port{{Number: 2, Link: "InfiniBand"}}}
	for name, c := range map[string]struct {
		devices []verbs.Device
		err     error
		want    []string
		not     []string
	}{
		"not built":    {nil, verbs.ErrNotBuilt, []string{"verbs  no: RDMA is not in this program: build it on Linux with `go build -tags verbs"}, []string{"device"}},
		"no device":    {nil, nil, []string{"no RDMA device", "rdma link add"}, nil},
		"no library":   {nil, errors.New("verbs: no such module"), []string{"verbs  no: no such module"}, nil},
		"all":          {[]verbs.Device{full}, nil, []string{"mlx5_0", "0x2c9", "durable flush  FLUSH", "ATOMIC WRITE", "CmpSwap", "GID 3  RoCE v2  10.0.0.1  --fabric-listen 10.0.0.1:PORT"}, []string{"refused", "10.0.0.9:PORT"}},
		"nothing much": {[]verbs.Device{bare}, nil, []string{"durable flush  READ, if", "aligned WRITE", "atomics        refused", "port 2 (InfiniBand) is not active"}, []string{"--fabric-listen"}},
		"broken":       {[]verbs.Device{{Name: "x", Err: errors.New("permission denied")}}, nil, []string{"cannot be used: permission denied"}, []string{"durable"}},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			listFabric(&b, c.devices, c.err)
			for _, w := range append(c.want, "shm    yes", "tcp    yes") {
				if !strings.Contains(b.String(), w) {
					t.Errorf("no %q in\n%s", w, b.String())
				}
			}
			for _, w := range c.not {
				if strings.Contains(b.String(), w) {
					t.Errorf("%q in\n%s", w, b.String())
				}
			}
		})
	}
}
