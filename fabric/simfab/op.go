package simfab

import (
	"fmt"
	"math/bits"

	"whale/fabric"
	"whale/fabric/internal/rules"
)

// op is a posted operation, and the event of its landing.
type op struct {
	fabric.Op
	c         *conn
	id        uint64 // of the event; 0: free
	pos       uint64 // in c.posted
	bad       error  // malformed, or not supported
	taken     bool   // data holds what is sent: local memory is not read any more
	data      []byte
	parts     []bool // words that landed ahead of the others; empty: none
	result    uint64 // what an atomic found
	landed    bool
	completed bool
	pin       *region // it is in the middle: it lands there, whatever becomes of the key; see middle.go
}

func (n *Network) newOp() *op {
	if last := len(n.ops) - 1; last >= 0 {
		o := n.ops[last]
		n.ops = n.ops[:last]
		return o
	}
	return new(op)
}

func (n *Network) freeOp(o *op) {
	*o = op{parts: o.parts[:0]}
	n.ops = append(n.ops, o)
}

// malformed is what is wrong with the operation whatever the memory it names.
func (n *Network) malformed(o *fabric.Op) error {
	if err := rules.Check(o, uint64(n.opts.Inline), uint64(n.opts.MaxSend)); err != nil {
		return err
	}
	switch {
	case (o.Kind == fabric.Flush || o.Kind == fabric.Fence) && o.A == fabric.Durable && n.opts.NoDurable:
		return fmt.Errorf("%w: durable %s", fabric.ErrUnsupported, kindName(o.Kind))
	case o.Flags&fabric.NonTemporal != 0 && !n.caps.NonTemporal:
		return fmt.Errorf("%w: non-temporal %s", fabric.ErrUnsupported, kindName(o.Kind))
	case (o.Kind == fabric.CompareSwap || o.Kind == fabric.FetchAdd) && n.opts.NoAtomics:
		return fmt.Errorf("%w: %s", fabric.ErrUnsupported, kindName(o.Kind))
	}
	return nil
}

// check is what the two ends have to say about the operation now.
func (o *op) check() error {
	if o.bad != nil {
		return o.bad
	}
	switch o.Kind {
	case fabric.Write, fabric.Read, fabric.Send:
		if _, ok := o.local(); !ok {
			return fmt.Errorf("%w: %d bytes at %d under key %#x of %s", fabric.ErrLocal, o.Len, o.Local.Off, uint64(o.Local.Key), o.c.ep.name)
		}
	}
	if o.Kind == fabric.Send || o.Kind == fabric.Fence {
		return nil
	}
	if _, _, ok := o.target(); !ok {
		return fmt.Errorf("%w: %v", fabric.ErrAccess, o.event())
	}
	return nil
}

// early: its completion says nothing of landing.
func (o *op) early() bool {
	return o.Kind == fabric.Write || o.Kind == fabric.Write8 || o.Kind == fabric.Send || o.Kind == fabric.Fence && o.A != fabric.Durable
}

// local is the local memory that the operation names, or what was taken from it.
func (o *op) local() ([]byte, bool) {
	if o.taken {
		return o.data, true
	}
	r := o.c.net.region(o.c.ep, o.Local.Key)
	if r == nil {
		return nil, false
	}
	return r.span(o.Local.Off, o.Len, 0)
}

// rightsFor says which rights a kind needs: any one of them.
var rightsFor = [...]fabric.Rights{
	fabric.Write:       fabric.RemoteWrite,
	fabric.Read:        fabric.RemoteRead,
	fabric.Write8:      fabric.RemoteWrite,
	fabric.CompareSwap: fabric.RemoteAtomic,
	fabric.FetchAdd:    fabric.RemoteAtomic,
	fabric.Flush:       knownRights,
}

// target is the remote memory that the operation works on, and its region.
func (o *op) target() (*region, []byte, bool) {
	r := o.pin
	if r == nil {
		r = o.c.net.region(o.c.peer.ep, o.Remote.Key)
	}
	if r == nil {
		return nil, nil, false
	}
	off, size, needs := o.Remote.Off, o.Len, rightsFor[o.Kind]
	switch o.Kind {
	case fabric.Write8, fabric.CompareSwap, fabric.FetchAdd:
		size = 8
	case fabric.Flush:
		if o.A == fabric.Durable {
			needs = fabric.RemoteFlush
		}
		if o.B == fabric.Region {
			off, size = 0, uint64(len(r.bytes))
		}
	}
	b, ok := r.span(off, size, needs)
	return r, b, ok
}

// take copies what is sent out of local memory, which is the caller's again from then on.
func (o *op) take() {
	if o.taken || o.Kind != fabric.Write && o.Kind != fabric.Send {
		return
	}
	if from, ok := o.local(); ok { // else check will say so
		o.data, o.taken = o.c.net.payload(len(from)), true
		copy(o.data, from)
	}
}

func (o *op) release() {
	if o.data != nil {
		class := bits.Len(uint(cap(o.data) - 1))
		o.c.net.payloads[class] = append(o.c.net.payloads[class], o.data)
	}
	o.data = nil
}

// payload is room for n bytes, from the pool of the next power of two.
func (n *Network) payload(size int) []byte {
	if size == 0 {
		return nil
	}
	class := max(6, bits.Len(uint(size-1)))
	pool := n.payloads[class]
	if last := len(pool) - 1; last >= 0 {
		n.payloads[class] = pool[:last]
		return pool[last][:size]
	}
	return make([]byte, size, 1<<class)
}
