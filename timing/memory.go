package timing

const lineSize = 64

// memory is what a node's stores and its card's writes go through on their way to the media: the modules with their
// write queues, and what of the cache is dirty because the card wrote it.
type memory struct {
	cost    *costs
	modules []module
	dirty   []dirtyLine // in the order in which they became so; some are clean again
	live    int         // those that are not
	share   int         // lines that cards' writes may hold (DDIO)
}

type dirtyLine struct {
	in *space
	at uint64 // index in it
}

// module is one module of persistent memory on a channel of its own.
//
// A line enters the write queue when it has room, leaves it for the module's buffer, and is merged there with others of its
// granule as long as that is among the last ones the buffer took. The media takes one granule after the other. What is read
// takes a place of the buffer, too.
type module struct {
	queue   []ps // when the line left that took this place last
	tail    int
	drained ps // when the last line left the queue

	granules []uint64 // in the buffer
	done     []ps     // when the media has the granule that took this place
	last     int
	media    ps // when the media is free
}

func newMemory(m *Model) memory {
	p := m.params
	mem := memory{cost: &m.cost, modules: make([]module, int(p.Memory.Modules))}
	mem.share = int(p.Cache.Size * 1e6 * p.Cache.DDIOWays / p.Cache.Ways / lineSize)
	for i := range mem.modules {
		k := max(1, int(p.Memory.Buffer*1024)/int(m.cost.granule))
		mod := module{queue: make([]ps, int(p.Memory.WriteQueue)), granules: make([]uint64, k), done: make([]ps, k)}
		for g := range mod.granules {
			mod.granules[g] = ^uint64(0)
		}
		mem.modules[i] = mod
	}
	return mem
}

// space is one pmem.Memory or piece of registered memory, at addresses of its own.
type space struct {
	start *byte // its first byte, which identifies it
	base  uint64
	pm    bool     // persistent memory; else DRAM, whose queues never fill here
	dirty []uint64 // a bit a line: dirty in the cache, by the card
}

// admit is when a line that reaches the memory controller at t is in its write queue.
func (m *memory) admit(s *space, addr uint64, t ps) ps {
	if !s.pm {
		return t
	}
	addr += s.base
	mod := &m.modules[addr/4096%uint64(len(m.modules))]
	in := max(t, mod.queue[mod.tail])
	left := max(in, mod.drained, mod.merge(addr/m.cost.granule, in, m.cost.toMedia)) + m.cost.toBuffer
	mod.queue[mod.tail], mod.drained = left, left
	if mod.tail++; mod.tail == len(mod.queue) {
		mod.tail = 0
	}
	return in
}

// merge is when the buffer has room for a line of the granule.
func (mod *module) merge(granule uint64, t, toMedia ps) ps {
	if mod.granules[mod.last] == granule {
		return t
	}
	for _, g := range mod.granules {
		if g == granule {
			return t
		}
	}
	if mod.last++; mod.last == len(mod.granules) {
		mod.last = 0
	}
	t = max(t, mod.done[mod.last])
	mod.media = max(mod.media, t) + toMedia
	mod.granules[mod.last], mod.done[mod.last] = granule, mod.media
	return t
}

// fetch says whether the buffer holds a granule that is read; it does afterwards.
func (mod *module) fetch(granule uint64) bool {
	for _, g := range mod.granules {
		if g == granule {
			return true
		}
	}
	if mod.last++; mod.last == len(mod.granules) {
		mod.last = 0
	}
	mod.granules[mod.last] = granule // done stays: the one that was here is on its way to the media
	return false
}

// lines are the first line of a range and the one behind its last.
func lines(off, n uint64) (first, end uint64) {
	if n == 0 {
		return 0, 0
	}
	return off / lineSize, (off + n + lineSize - 1) / lineSize
}

// soil marks lines dirty that the card writes into the cache at t, and says when the cache has them: beyond the cards' share
// of it, for each the oldest is written back first.
func (m *memory) soil(s *space, off, n uint64, t ps) ps {
	first, end := lines(off, n)
	for at := first; at < end; at++ {
		if bit := uint64(1) << (at % 64); s.dirty[at/64]&bit == 0 {
			s.dirty[at/64] |= bit
			m.dirty = append(m.dirty, dirtyLine{s, at})
			m.live++
		}
	}
	for m.live > m.share {
		old := m.dirty[0]
		if m.dirty = m.dirty[1:]; m.clean(old.in, old.at) {
			t = max(t, m.admit(old.in, old.at*lineSize, t))
		}
	}
	if len(m.dirty) > 64 && len(m.dirty) > 4*m.live { // most are clean again
		m.compact()
	}
	return t
}

// compact leaves each dirty line once in the list.
func (m *memory) compact() {
	kept := m.dirty[:0]
	for _, d := range m.dirty {
		if bit := uint64(1) << (d.at % 64); d.in.dirty[d.at/64]&bit != 0 {
			d.in.dirty[d.at/64] &^= bit // so that it is not kept again
			kept = append(kept, d)
		}
	}
	for _, d := range kept {
		d.in.dirty[d.at/64] |= 1 << (d.at % 64)
	}
	m.dirty = kept
}

// clean marks a line clean and says whether it was dirty.
func (m *memory) clean(s *space, at uint64) bool {
	bit := uint64(1) << (at % 64)
	if s.dirty[at/64]&bit == 0 {
		return false
	}
	s.dirty[at/64] &^= bit
	m.live--
	return true
}

// writeBack writes back, from t on, what is dirty of a range, and says when it is in the write queues.
func (m *memory) writeBack(s *space, off, n uint64, t ps) ps {
	done, way := t, t+m.cost.writeBack
	line := func(at uint64) {
		if m.clean(s, at) {
			way += m.cost.writeBackLine
			done = max(done, m.admit(s, at*lineSize, way))
		}
	}
	first, end := lines(off, n)
	if end-first <= uint64(len(m.dirty)) {
		for at := first; at < end; at++ {
			line(at)
		}
		return done
	}
	for _, d := range m.dirty {
		if d.in == s && d.at >= first && d.at < end {
			line(d.at)
		}
	}
	m.compact()
	return done
}

// load is how much longer than from DRAM, which is in the cost of a read over PCIe, a range that starts at off takes: the
// latency of its first line, and the bandwidth of the media for the others.
func (m *memory) load(s *space, off, n uint64) ps {
	first, end := lines(off, n)
	if end == first || !s.pm || s.dirty[first/64]>>(first%64)&1 != 0 {
		return 0
	}
	rest := ps(end-first-1) * m.cost.readPerLine
	addr := s.base + off
	if m.modules[addr/4096%uint64(len(m.modules))].fetch(addr / m.cost.granule) {
		return rest
	}
	return rest + max(0, m.cost.readLatency-m.cost.dramLoad)
}
