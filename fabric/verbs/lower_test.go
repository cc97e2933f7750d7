//go:build verbs && cgo && linux

package verbs

import (
	"errors"
	"testing"

	"whale/fabric"
	"whale/pmem"
)

// TestFenceBehindWhatCannotBeFlushed: a durable Fence is an error, not a guess, when what was written through before it takes
// a FLUSH that the key does not allow.
func TestFenceBehindWhatCannotBeFlushed(t *testing.T) {
	flushed := plan{flush: true, flushNative: true, domain: pmem.ADR}
	inside := plan{flush: true, flushNative: true, domain: pmem.EADR, nonTemporal: true}
	for name, c := range map[string]struct {
		plan   plan
		rights fabric.Rights
		flags  fabric.Flags
		place  uint64
		bad    bool
	}{
		"without the right":                {flushed, fabric.RemoteWrite, fabric.WriteThrough, fabric.Durable, true},
		"with it":                          {flushed, fabric.RemoteWrite | fabric.RemoteFlush, fabric.WriteThrough, fabric.Durable, false},
		"of plain writes it says nothing":  {flushed, fabric.RemoteWrite, 0, fabric.Durable, false},
		"a visible fence":                  {flushed, fabric.RemoteWrite, fabric.WriteThrough, fabric.Visible, false},
		"the caches are inside the domain": {inside, fabric.RemoteWrite, fabric.WriteThrough, fabric.Durable, false},
		"non-temporal, visible is durable": {inside, fabric.RemoteWrite, fabric.NonTemporal, fabric.Durable, false},
	} {
		t.Run(name, func(t *testing.T) {
			// Room for work requests that nobody posts.
			q := &conn{plan: c.plan, q: &queue{requests: make([]workRequest, 8)}, ring: make([]pending, 8), buffers: &block{mem: make([]byte, slotOff(0, 8)+8*slotSize)}}
			key := makeKey(7, c.rights, iovaOf(1, 0))
			q.wrote(&fabric.Op{Kind: fabric.Write, Flags: c.flags, Remote: fabric.Addr{Key: key}}, iovaOf(1, 0), 64)
			err := q.lowerFence(&fabric.Op{Kind: fabric.Fence, A: c.place}, 0, 0)
			if c.bad != errors.Is(err, fabric.ErrAccess) || !c.bad && (err != nil || q.filled != 1) {
				t.Errorf("%v, %d requests", err, q.filled)
			}
		})
	}
}
