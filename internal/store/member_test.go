package store

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"whale/internal/plog"
	"whale/pmem"
)

func TestMain(m *testing.M) {
	// A version has to be written, drained, verified and installed before much can go wrong: runs of 30 are too short.
	must(panics{}, flag.Set("rapid.steps", "150"))
	if raceEnabled {
		must(panics{}, flag.Set("rapid.checks", "10")) // one goroutine each: the detector has nothing to find there
	}
	os.Exit(m.Run())
}

type panics struct{}

func (panics) Helper()                           {}
func (panics) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// small is a geometry in which segments and rings are short enough for tests to reach their ends.
var small = plog.Geometry{RingSlots: 64, SegmentSize: 64 << 10, Segments: 8}

// member is a memory with a log and a store on it.
type member struct {
	m pmem.Memory
	l *plog.Log
	s *Store
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

var identity = plog.Identity{Shard: 1, Member: 2}

func newMember(t fataler, g plog.Geometry, role Role, fold func(uint64) uint64) *member {
	t.Helper()
	m := pmem.Heap(g.Size())
	must(t, plog.Format(m, g, identity))
	return openMember(t, m, role, fold)
}

// openMember opens a formatted memory in the epoch after the one it had.
func openMember(t fataler, m pmem.Memory, role Role, fold func(uint64) uint64) *member {
	t.Helper()
	l, err := plog.Open(m, "memory", identity)
	must(t, err)
	r := &member{m: m, l: l, s: newFolded(l, role, fold)}
	r.rebuild(t)
	return r
}

func (r *member) rebuild(t fataler) {
	t.Helper()
	_, err := r.s.Rebuild()
	must(t, err)
	epoch := r.l.Epoch() + 1
	must(t, r.l.SetEpoch(epoch))
	must(t, r.l.AddEntry(plog.EpochEntry{Epoch: epoch, FirstSeq: r.l.End() + 1, FirstOff: r.l.Tail()}))
	must(t, r.s.SetEpoch(epoch, r.l.End()))
	r.s.ResetStable(r.l.End())
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// set commits one write and returns what names it.
func (r *member) set(t fataler, key, value string) plog.Rec {
	t.Helper()
	tx := r.s.Begin()
	tx.Set([]byte(key), []byte(value))
	return r.commit(t, tx)[0]
}

func (r *member) del(t fataler, key string) plog.Rec {
	t.Helper()
	tx := r.s.Begin()
	if !tx.Del([]byte(key)) {
		t.Fatalf("%q is not there", key)
	}
	return r.commit(t, tx)[0]
}

func (r *member) flushAll(t fataler) plog.Rec {
	t.Helper()
	tx := r.s.Begin()
	tx.FlushAll()
	return r.commit(t, tx)[0]
}

func (r *member) commit(t fataler, tx *Tx) []plog.Rec {
	t.Helper()
	recs, err := tx.Commit(nil)
	must(t, err)
	r.l.Commit()
	return recs
}

// deliverSlot lets a slot of p's view appear in the replica's ring.
func (r *member) deliverSlot(p *member, rec plog.Rec, s uint64) {
	slot := plog.Slot{Rec: rec, S: s, Epoch: p.l.Epoch()}
	plog.StoreSlot(r.m, r.s.g.SlotOff(rec.Seq), &slot)
}

// deliverBytes lets a record's bytes arrive at the replica.
func (r *member) deliverBytes(p *member, rec plog.Rec) {
	off, n := r.s.g.Span(rec)
	off += r.s.g.Arena()
	copy(r.m.Bytes()[off:off+n], p.m.Bytes()[off:off+n])
}

// deliver is both, and all that the replica's loop does then.
func (r *member) deliver(p *member, s uint64, recs ...plog.Rec) {
	for _, rec := range recs {
		r.deliverBytes(p, rec)
		r.deliverSlot(p, rec, 0)
	}
	r.s.Drain()
	r.s.SetStable(s)
	r.s.Verify(nil, 1<<20, 1<<40)
	r.s.Install(1 << 20)
}

// answer is a read's outcome as text.
func answer(value []byte, v Verdict) string {
	if v == Hit {
		return "=" + string(value)
	}
	return v.String()
}

func (r *member) read(key string) string {
	value, v, _ := r.s.Read([]byte(key), nil)
	return answer(value, v)
}

func (r *member) readAt(key string) (string, plog.Rec) {
	value, v, _, need := r.s.ReadAt([]byte(key), nil)
	return answer(value, v), need
}

func (r *member) expect(t fataler, key, want string) {
	t.Helper()
	if got := r.read(key); got != want {
		t.Fatalf("%q reads %s, want %s", key, got, want)
	}
}

func one(uint64) uint64   { return 0x1234567890abcdef }
func few(h uint64) uint64 { return h&3<<62 | h>>2&1<<34 | 1 }

var folds = map[string]func(uint64) uint64{"real hashes": nil, "few hashes": few, "one hash": one}

func eachFold(t *testing.T, f func(t *testing.T, fold func(uint64) uint64)) {
	for name, fold := range folds {
		t.Run(name, func(t *testing.T) { f(t, fold) })
	}
}

func numbered(prefix string, n int) string { return fmt.Sprintf("%s%d", prefix, n) }
