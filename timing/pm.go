package timing

import (
	"unsafe"

	"whale/pmem"
)

// PM is persistent memory of a machine: the bytes of another memory, and what reaching them costs the thread that does.
// It implements pmem.Memory. Stores through Bytes are paid for by the Persist behind them; loads through Bytes by whoever
// calls [Model.LoadCached] and its kin.
type PM struct {
	node  *Node
	inner pmem.Memory
	space *space
}

var _ pmem.Memory = (*PM)(nil)

// Memory gives the machine persistent memory with the bytes of inner, which may be a heap, a file or the crash model; what
// is persisted and fenced is so there, too. The same inner memory is the same memory.
func (n *Node) Memory(inner pmem.Memory) *PM { return &PM{n, inner, n.space(inner, true)} }

// space is the place of a memory in the machine.
func (n *Node) space(m pmem.Memory, pm bool) *space {
	start := unsafe.SliceData(m.Bytes())
	for _, s := range n.spaces {
		if s.start == start {
			return s
		}
	}
	size := (uint64(len(m.Bytes())) + 4095) &^ 4095
	s := &space{start: start, base: n.next, pm: pm, dirty: make([]uint64, size/lineSize/64)}
	n.next += size
	n.spaces = append(n.spaces, s)
	return s
}

// Bytes implements pmem.Memory.
func (p *PM) Bytes() []byte { return p.inner.Bytes() }

// Domain implements pmem.Memory: the one of the parameters.
func (p *PM) Domain() pmem.Domain { return p.node.m.domain() }

// Persist implements pmem.Memory. The thread pays for the instructions; the lines are on their way meanwhile.
func (p *PM) Persist(off, n uint64) {
	p.inner.Persist(off, n)
	p.flush(off, n, p.node.m.cost.clwbWay)
}

// CopyNT implements pmem.Memory.
func (p *PM) CopyNT(off uint64, src []byte) {
	p.inner.CopyNT(off, src)
	p.flush(off, uint64(len(src)), p.node.m.cost.ntWay)
}

func (p *PM) flush(off, n uint64, way ps) {
	m := p.node.m
	t := m.begin()
	if m.cost.eadr { // caches need no flush, and code that asks for the domain makes none
		return
	}
	first, end := lines(off, n)
	for at := first; at < end; at++ {
		t.clock += m.cost.clwb
		p.node.memory.clean(p.space, at)
		t.fence = max(t.fence, p.node.memory.admit(p.space, at*lineSize, t.clock+way))
	}
}

// Fence implements pmem.Memory: the thread waits until its lines are in the write queue.
func (p *PM) Fence() {
	m := p.node.m
	t := m.begin()
	p.inner.Fence()
	if m.cost.eadr {
		t.clock += m.cost.eadrFence
		return
	}
	t.clock = max(t.clock, t.fence)
}

// Load64 implements pmem.Memory: a load that the cache has, or that fetches what a card wrote.
func (p *PM) Load64(off uint64) uint64 {
	m := p.node.m
	m.begin().clock += m.cost.cacheHit
	return p.inner.Load64(off)
}

// Store64 implements pmem.Memory.
func (p *PM) Store64(off, v uint64) {
	p.node.m.begin()
	p.inner.Store64(off, v)
}

// Sync implements pmem.Memory. It is not modelled: no storage is below the memory.
func (p *PM) Sync(off, n uint64) error { return p.inner.Sync(off, n) }
