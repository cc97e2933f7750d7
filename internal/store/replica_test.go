package store

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"whale/internal/plog"
)

// replicaMachine drives a replica by what a primary would write into its memory: slots and bytes in any order, delayed
// at will, and views that drop what was not stable. P moves S as the protocol has it: only over slots that are visible.
type replicaMachine struct {
	primaryMachine // its stable is the real S
	r              *member
	slots          map[uint64]bool // seqs of those delivered, in the present view
	serves         uint64          // reads are served once slots and S have reached this seq
	dirty, clean   *int            // how reads ended, over all runs
}

func newReplicaMachine(t fataler, fold func(uint64) uint64) *replicaMachine {
	m := &replicaMachine{
		r: newMember(t, small, Replica, fold), slots: map[uint64]bool{},
	}
	m.p, m.model = newMember(t, small, Primary, fold), newModel()
	return m
}

// visible is the seq up to which slots are in the replica's ring, or were.
func (m *replicaMachine) visible() uint64 {
	seq := m.r.s.Drained()
	for m.slots[seq+1] {
		seq++
	}
	return seq
}

// here says whether the replica's memory has the record's bytes, P's.
func (m *replicaMachine) here(seq uint64) bool {
	off, n := small.Span(m.model.recs[seq-1])
	off += small.Arena()
	return bytes.Equal(m.r.m.Bytes()[off:off+n], m.p.m.Bytes()[off:off+n])
}

// stableBelow draws the end of a group that may be S, from low on.
func (m *replicaMachine) stableBelow(t *rapid.T, low, high uint64) uint64 {
	var ends []uint64
	for _, e := range m.model.ends {
		if e >= low && e <= high {
			ends = append(ends, e)
		}
	}
	if len(ends) == 0 {
		return low
	}
	return rapid.SampledFrom(ends).Draw(t, "S")
}

func (m *replicaMachine) DeliverSlot(t *rapid.T) {
	drained := m.r.s.Drained()
	var next []uint64
	for seq := drained + 1; seq <= min(m.model.end(), drained+small.RingSlots) && len(next) < 4; seq++ {
		if !m.slots[seq] {
			next = append(next, seq)
		}
	}
	if len(next) == 0 {
		t.Skip("no slot to deliver")
	}
	seq := rapid.SampledFrom(next).Draw(t, "seq")
	m.slots[seq] = true
	m.r.deliverSlot(m.p, m.model.recs[seq-1], m.stableBelow(t, 0, m.stable))
}

// Flood delivers every slot that P may post, so that the table of pending records gets full.
func (m *replicaMachine) Flood(t *rapid.T) {
	for range rapid.IntRange(0, 12).Draw(t, "writes") {
		m.Write(t)
	}
	for seq := m.r.s.Drained() + 1; seq <= min(m.model.end(), m.r.s.Drained()+small.RingSlots); seq++ {
		m.slots[seq] = true
		m.r.deliverSlot(m.p, m.model.recs[seq-1], 0)
	}
}

func (m *replicaMachine) DeliverBytes(t *rapid.T) {
	var next []uint64
	for seq := m.r.l.End() + 1; seq <= m.model.end() && len(next) < 8; seq++ {
		if !m.here(seq) {
			next = append(next, seq)
		}
	}
	if len(next) == 0 {
		t.Skip("no bytes to deliver")
	}
	rec := m.model.recs[rapid.SampledFrom(next).Draw(t, "seq")-1]
	if rapid.IntRange(0, 4).Draw(t, "whole") > 0 {
		m.r.deliverBytes(m.p, rec)
		return
	}
	// The rest is still on its way.
	at := small.Arena() + rec.Off
	n := uint64(rapid.IntRange(1, int(rec.Len)-1).Draw(t, "bytes"))
	copy(m.r.m.Bytes()[at:at+n], m.p.m.Bytes()[at:at+n])
}

func (m *replicaMachine) MoveStable(t *rapid.T) {
	m.stable = m.stableBelow(t, m.stable, m.visible())
	m.p.s.SetStable(m.stable)
}

func (m *replicaMachine) LearnStable(t *rapid.T) { m.r.s.SetStable(m.stableBelow(t, 0, m.stable)) }

func (m *replicaMachine) Drain(t *rapid.T) {
	visible := m.visible()
	got := m.r.s.Drain()
	if full := m.r.s.Installed() + small.RingSlots; got != min(visible, full) {
		t.Fatalf("drained up to %d; slots are visible up to %d and there is room up to %d", got, visible, full)
	}
}

func (m *replicaMachine) Verify(t *rapid.T) {
	from := m.r.l.End()
	limit := rapid.IntRange(1, 40).Draw(t, "limit")
	bytes := rapid.Uint64Range(1, 1<<12).Draw(t, "bytes")
	recs := m.r.s.Verify(nil, limit, bytes)
	end := from
	for n := uint64(0); end < m.r.s.Drained() && m.here(end+1) && end < from+uint64(limit) && n < bytes; end++ {
		n += uint64(m.model.recs[end].Len)
	}
	if m.r.l.End() != end || uint64(len(recs)) != end-from || m.r.s.Fault() != nil {
		t.Fatalf("verified %d records up to %d, want up to %d; fault %v", len(recs), m.r.l.End(), end, m.r.s.Fault())
	}
	m.r.l.Commit()
}

func (m *replicaMachine) Install(t *rapid.T) {
	limit := rapid.Uint64Range(1, 100).Draw(t, "limit")
	before := m.r.s.Installed()
	m.r.s.Install(limit)
	if got, want := m.r.s.Installed(), min(m.r.s.Stable(), m.r.l.End(), before+limit); got < want {
		t.Fatalf("installed up to %d, want %d", got, want)
	}
	if m.r.s.Stable() > m.stable {
		t.Fatalf("the replica takes %d for stable, S is %d", m.r.s.Stable(), m.stable)
	}
}

func (m *replicaMachine) Missing(t *rapid.T) {
	limit := rapid.IntRange(1, 8).Draw(t, "limit")
	got := m.r.s.Missing(nil, limit)
	var want []plog.Rec
	for seq := m.r.l.End() + 1; seq <= min(m.r.s.Drained(), m.r.l.End()+uint64(limit)); seq++ {
		if !m.here(seq) {
			want = append(want, m.model.recs[seq-1])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d missing, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("missing is %+v, want %+v", got[i], want[i])
		}
		if rapid.Bool().Draw(t, "fetch") {
			m.r.deliverBytes(m.p, got[i])
		}
	}
}

// Read: whatever is answered is the value at the real S, although the replica may know of a lower one only.
func (m *replicaMachine) Read(t *rapid.T) {
	if m.stable < m.serves || m.visible() < m.stable {
		t.Skip("not serving")
	}
	for n := range 12 {
		key := "kkkkkkkkkkk"[:n]
		switch got, want := m.r.read(key), m.model.at(m.stable, key); got {
		case "dirty":
			*m.dirty++
		case want:
			*m.clean++
		default:
			t.Fatalf("%q reads %s, want %s", key, got, want)
		}
	}
}

// ReadAt is a dirty read: S is fresh, and missing bytes are fetched.
func (m *replicaMachine) ReadAt(t *rapid.T) {
	if m.stable < m.serves || m.visible() < m.stable {
		t.Skip("not serving")
	}
	key := someKeys.Draw(t, "key")
	m.r.s.SetStable(m.stable)
	for {
		m.r.s.Drain()
		got, need := m.r.readAt(key)
		switch {
		case got != "dirty":
			if want := m.model.at(m.stable, key); got != want {
				t.Fatalf("%q reads %s at %d, want %s", key, got, m.stable, want)
			}
			return
		case need.Seq != 0:
			if m.here(need.Seq) || need != m.model.recs[need.Seq-1] || need.Seq > m.stable {
				t.Fatalf("needs %+v, which is here, or not what P has, or above S %d", need, m.stable)
			}
			m.r.deliverBytes(m.p, need)
		default:
			if m.r.s.Drained() >= m.stable {
				t.Fatalf("dirty without need, but %d are drained and S is %d", m.r.s.Drained(), m.stable)
			}
			m.makeRoom(t)
		}
	}
}

// makeRoom does what the loop does when the pending table is full.
func (m *replicaMachine) makeRoom(t *rapid.T) {
	for _, r := range m.r.s.Missing(nil, 1<<20) {
		m.r.deliverBytes(m.p, r)
	}
	before := m.r.s.Installed()
	m.r.s.Verify(nil, 1<<20, 1<<40)
	m.r.l.Commit()
	m.r.s.Install(1 << 20)
	if m.r.s.Installed() == before {
		t.Fatalf("no room was made: installed %d, log end %d, S %d", before, m.r.l.End(), m.r.s.Stable())
	}
}

// View begins an epoch in which P has dropped some of what was not stable; what it posts then has other bytes at the
// same seqs and offsets, while the replica's memory still has the old ones.
func (m *replicaMachine) View(t *rapid.T) {
	keep := m.stableBelow(t, max(m.stable, m.serves), m.model.end())
	m.view(t, keep)
}

func (m *replicaMachine) view(t *rapid.T, keep uint64) {
	must(t, m.p.l.CutTo(keep))
	m.p.rebuild(t)
	m.p.s.ResetStable(m.stable)
	m.model.cut(keep)
	entry := plog.EpochEntry{Epoch: m.p.l.Epoch(), FirstSeq: keep + 1, FirstOff: m.p.l.Tail()}
	must(t, m.r.l.SetEpoch(entry.Epoch))
	must(t, m.r.l.AddEntry(entry))
	must(t, m.r.s.SetEpoch(entry.Epoch, m.r.l.End()))
	clear(m.slots)
	if got := m.r.s.Drained(); got != m.r.l.End() {
		t.Fatalf("drained is %d in a new view, want the log's end %d", got, m.r.l.End())
	}
}

// Restart makes the replica's index anew. It may show what is not stable yet, so that it serves once S covers P's log.
func (m *replicaMachine) Restart(t *rapid.T) {
	_, err := m.r.s.Rebuild()
	must(t, err)
	m.r.s.ResetStable(0)
	m.serves = m.model.end()
	m.view(t, m.serves)
}

// Settle: everything arrives, and then every read is clean.
func (m *replicaMachine) Settle(t *rapid.T) {
	for m.r.s.Installed() < m.model.end() || m.stable < m.model.end() {
		drained := m.r.s.Drain()
		for seq := drained + 1; seq <= min(m.model.end(), drained+small.RingSlots); seq++ {
			m.slots[seq] = true
			m.r.deliverSlot(m.p, m.model.recs[seq-1], m.stable)
		}
		m.r.s.Drain()
		m.stable = max(m.stable, m.stableEnd(m.visible()))
		m.p.s.SetStable(m.stable)
		m.r.s.SetStable(m.stable)
		if m.r.s.Installed() < m.stable {
			m.makeRoom(t)
		}
	}
	for m.r.s.Stats().Sweeping {
		m.r.s.Install(1 << 20)
	}
	keys := len(m.model.newest())
	if got := m.r.s.Stats(); got.Keys != int64(keys) || got.Entries != uint64(keys) || got.Pending != 0 {
		t.Fatalf("%+v, want %d keys and entries", got, keys)
	}
	for n := range 12 {
		key := "kkkkkkkkkkk"[:n]
		m.r.expect(t, key, m.model.at(m.stable, key))
	}
}

func (m *replicaMachine) stableEnd(limit uint64) uint64 {
	best := uint64(0)
	for _, e := range m.model.ends {
		if e <= limit {
			best = e
		}
	}
	return best
}

func TestReplicaAgainstModel(t *testing.T) {
	eachFold(t, func(t *testing.T, fold func(uint64) uint64) {
		var dirty, clean int
		rapid.Check(t, func(t *rapid.T) {
			m := newReplicaMachine(t, fold)
			m.dirty, m.clean = &dirty, &clean
			t.Repeat(map[string]func(*rapid.T){
				"write": m.Write, "write again": m.Write,
				"slot": m.DeliverSlot, "slot 2": m.DeliverSlot, "slot 3": m.DeliverSlot, "flood": m.Flood,
				"bytes": m.DeliverBytes, "bytes 2": m.DeliverBytes, "bytes 3": m.DeliverBytes, "bytes 4": m.DeliverBytes,
				"stable": m.MoveStable, "learn": m.LearnStable,
				"drain": m.Drain, "verify": m.Verify, "install": m.Install, "missing": m.Missing,
				"read": m.Read, "read 2": m.Read, "read at": m.ReadAt,
				"view": m.View, "restart": m.Restart, "settle": m.Settle,
			})
		})
		t.Logf("%d clean reads, %d dirty ones", clean, dirty)
		if !raceEnabled && (dirty == 0 || clean == 0) { // under the detector there are too few tests to rely on that
			t.Error("the test shows nothing")
		}
	})
}
