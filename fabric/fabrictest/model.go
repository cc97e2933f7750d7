package fabrictest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"

	"whale/fabric"
)

func init() {
	register("random traffic against a model", checkRandom)
}

// model is what one direction of a connection must look like: the peer's memory as the operations posted so far leave it,
// and the completions still to come. It executes at once; the provider may take its time, but has to agree in the end.
type model struct {
	r      *rig
	s      *side
	rng    *rand.Rand
	local  *area // [0, half) is written from, [half, size) is read into
	remote *area
	memory []byte // the peer's
	source []byte // our own, lower half
	ids    uint64
	expect []expected
	reads  []readInto // Reads without a later completion yet: their target must not be used, their source may still change
	from   uint64     // next free place in the lower half, until a completion frees it all
}

type expected struct {
	kind     fabric.Kind
	id       uint64
	value    uint64
	hasValue bool
	data     []byte // of a Read
	at       uint64 // its place in local
}

type readInto struct{ off, n uint64 }

func checkRandom(r *rig) {
	for seed := range uint64(6) {
		la, lb := r.area(r.a, 16<<10, fabric.LocalOnly), r.area(r.b, 16<<10, fabric.LocalOnly)
		ra, rb := r.area(r.a, 8<<10, allRights), r.area(r.b, 8<<10, allRights)
		ways := []*model{
			{r: r, s: r.a, rng: newRand(seed), local: la, remote: rb},
			{r: r, s: r.b, rng: newRand(seed + 1000), local: lb, remote: ra},
		}
		for i, m := range ways {
			m.memory = make([]byte, m.remote.size)
			pattern(seed*2+uint64(i), m.local.bytes())
			m.source = bytes.Clone(m.local.bytes()[:m.local.size/2])
		}
		for range 60 {
			for _, m := range ways {
				m.burst(1 + m.rng.IntN(12))
			}
			for range ways[0].rng.IntN(5) {
				if r.Progress != nil {
					r.Progress()
				}
			}
			for _, m := range ways {
				if m.rng.IntN(3) == 0 {
					m.finish()
				}
			}
		}
		for _, m := range ways {
			m.finish()
		}
	}
}

// burst posts a batch of random operations and tells the model.
func (m *model) burst(n int) {
	var batch []fabric.Op
	for range n {
		m.ids++
		op := fabric.Op{ID: m.ids, Remote: m.remote.addr(0)}
		if m.rng.IntN(3) == 0 {
			op.Flags |= fabric.Signaled
		}
		e := expected{id: m.ids}
		length := uint64(m.rng.IntN(300))
		off := uint64(m.rng.IntN(int(m.remote.size - length)))
		word := uint64(m.rng.IntN(int(m.remote.size/8))) * 8
		switch pick := m.rng.IntN(12); {
		case pick < 5:
			op.Kind, op.Len, op.Remote.Off = fabric.Write, length, off
			op.Local = m.local.span(uint64(m.rng.IntN(int(m.local.size/2 - length))))
			op.Flags |= []fabric.Flags{0, 0, fabric.WriteThrough, fabric.Notify}[m.rng.IntN(4)]
			if m.beingRead(off, length) {
				op.Flags |= fabric.Fenced
			}
			copy(m.memory[off:off+length], m.source[op.Local.Off:])
		case pick < 7:
			op.Kind, op.Remote.Off, op.A = fabric.Write8, word, m.rng.Uint64()
			if m.beingRead(word, 8) {
				op.Flags |= fabric.Fenced
			}
			binary.LittleEndian.PutUint64(m.memory[word:], op.A)
		case pick < 9:
			if m.from+length > m.local.size/2 {
				continue // no room to read into until the next finish
			}
			op.Kind, op.Len, op.Remote.Off, op.Local = fabric.Read, length, off, m.local.span(m.local.size/2+m.from)
			m.reads = append(m.reads, readInto{off, length})
			e.data, e.at = bytes.Clone(m.memory[off:off+length]), op.Local.Off
			m.from += length
			op.Flags |= fabric.Signaled
		case pick == 9:
			op.Kind, op.Remote.Off, op.Len, op.A = fabric.Flush, off, length, fabric.Visible
		case pick == 10 && m.s.conn.Caps().Atomics:
			op.Remote.Off, e.hasValue = word, true
			if m.beingRead(word, 8) {
				op.Flags |= fabric.Fenced
			}
			e.value = binary.LittleEndian.Uint64(m.memory[word:])
			op.Kind, op.A = fabric.FetchAdd, m.rng.Uint64()
			after := e.value + op.A
			if m.rng.IntN(2) == 0 {
				op.Kind, op.A, op.B = fabric.CompareSwap, e.value+uint64(m.rng.IntN(2)), op.A
				if after = e.value; op.A == e.value {
					after = op.B
				}
			}
			binary.LittleEndian.PutUint64(m.memory[word:], after)
		default:
			op.Kind = fabric.Fence
		}
		if e.kind = op.Kind; op.Flags&fabric.Signaled != 0 {
			m.expect = append(m.expect, e)
		}
		batch = append(batch, op)
	}
	m.s.post(batch...)
}

// beingRead: a Read of these bytes was posted and may not have been executed. Only what is Fenced stays behind it.
func (m *model) beingRead(off, n uint64) bool {
	for _, rd := range m.reads {
		if off < rd.off+rd.n && rd.off < off+n {
			return true
		}
	}
	return false
}

// finish waits for everything posted and compares.
func (m *model) finish() {
	m.r.Helper()
	m.s.post(flush(0, m.remote, fabric.Visible, fabric.Region, fabric.Signaled))
	for _, e := range m.expect {
		c := m.s.expect(e.kind, e.id, nil)
		if e.hasValue && c.Value != e.value {
			m.r.Fatalf("%s %d returned %#x, the model says %#x", kindName(e.kind), e.id, c.Value, e.value)
		}
		if got := m.local.bytes()[e.at:]; e.data != nil {
			if d := firstDiff(e.data, got); d >= 0 {
				m.r.Fatalf("Read %d: byte %d is %#02x, the model says %#02x", e.id, d, got[d], e.data[d])
			}
		}
	}
	m.s.expect(fabric.Flush, 0, nil)
	if d := firstDiff(m.memory, m.remote.bytes()); d >= 0 {
		m.r.Fatalf("remote byte %d is %#02x, the model says %#02x", d, m.remote.bytes()[d], m.memory[d])
	}
	if d := firstDiff(m.source, m.local.bytes()); d >= 0 {
		m.r.Fatalf("local byte %d, which was only read from, changed", d)
	}
	m.expect, m.reads, m.from = m.expect[:0], m.reads[:0], 0
}
