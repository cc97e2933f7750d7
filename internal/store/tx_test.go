package store

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"whale/internal/plog"
	"whale/pmem"
)

// primaryMachine drives a primary's store and the model side by side.
type primaryMachine struct {
	t      *rapid.T
	p      *member
	fold   func(uint64) uint64
	model  *model
	stable uint64
	dw     uint64
}

var someKeys = rapid.Map(rapid.IntRange(0, 11), func(n int) string { return strings.Repeat("k", n) })

// write runs one transaction of random steps in both, comparing all that it answers.
func (m *primaryMachine) write(t *rapid.T, commit bool) {
	tx := m.p.s.Begin()
	state := maps.Clone(m.model.newest())
	var keys []string // of the records that Commit will append, in order
	own := map[string]bool{}
	flushed, seen := false, uint64(0)
	for i := range rapid.IntRange(0, 14).Draw(t, "steps") {
		key := someKeys.Draw(t, "key")
		want, present := state[key]
		reveal := func() {
			if !own[key] && !flushed {
				seen = max(seen, m.model.revealed(key))
			}
		}
		switch op := rapid.IntRange(0, 99).Draw(t, "op"); {
		case op < 35:
			reveal()
			if got, ok := tx.Get([]byte(key)); ok != present || string(got) != want {
				t.Fatalf("Get(%q) = %q, %v; want %q, %v", key, got, ok, want, present)
			}
		case op < 70:
			value := fmt.Sprintf("%d.%d%s", m.model.end(), i, strings.Repeat(".", rapid.IntRange(0, 300).Draw(t, "length")))
			tx.Set([]byte(key), []byte(value))
			state[key] = value
			if !own[key] {
				own[key], keys = true, append(keys, key)
			}
		case op < 90:
			reveal()
			if got := tx.Del([]byte(key)); got != present {
				t.Fatalf("Del(%q) = %v, want %v", key, got, present)
			}
			if present && !own[key] {
				own[key], keys = true, append(keys, key)
			}
			delete(state, key)
		case op < 95:
			seen = max(seen, m.model.end())
			if got := tx.Len(); got != len(state) {
				t.Fatalf("Len() = %d, want %d", got, len(state))
			}
		default:
			tx.FlushAll()
			clear(state)
			clear(own)
			flushed, keys = true, append(keys[:0], "")
		}
	}
	if got := tx.Seen(); got > m.p.l.End() || got < seen && seen > m.stable {
		t.Fatalf("Seen() = %d, but %d was revealed, %d is stable and %d the end", got, seen, m.stable, m.p.l.End())
	}
	if got := tx.Writes(); got != len(keys) {
		t.Fatalf("Writes() = %d, want %d", got, len(keys))
	}
	if !commit {
		return
	}
	recs, err := tx.Commit(nil)
	if err != nil || len(recs) != len(keys) {
		t.Fatalf("Commit() = %d records, %v; want %d", len(recs), err, len(keys))
	}
	for i, r := range recs {
		if !m.p.l.Verify(r) || r.Flags.Has(plog.GroupEnd) != (i == len(recs)-1) {
			t.Fatalf("record %d of %d: %+v", i, len(recs), r)
		}
	}
	m.model.commit(state, keys, recs)
}

func (m *primaryMachine) Write(t *rapid.T)  { m.write(t, true) }
func (m *primaryMachine) Abort(t *rapid.T)  { m.write(t, false) }
func (m *primaryMachine) Commit(t *rapid.T) { m.p.l.Commit() }

// MoveStable lets S move to the end of some group.
func (m *primaryMachine) MoveStable(t *rapid.T) {
	ends := m.model.ends
	for ends[0] < m.stable {
		ends = ends[1:]
	}
	m.stable = rapid.SampledFrom(ends).Draw(t, "S")
	m.p.s.SetStable(m.stable)
}

func (m *primaryMachine) MoveEverywhere(t *rapid.T) {
	m.dw = rapid.Uint64Range(m.dw, m.stable).Draw(t, "DW")
	for range rapid.IntRange(1, 300).Draw(t, "calls") {
		m.p.s.Everywhere(m.dw)
	}
}

func (m *primaryMachine) Read(t *rapid.T) {
	key := someKeys.Draw(t, "key")
	value, v, at := m.p.s.Read([]byte(key), []byte("before"))
	got := answer(value, v)
	if v == Hit {
		got = "=" + strings.TrimPrefix(string(value), "before")
	}
	if want := m.model.at(m.stable, key); got != want || at.Seq > m.stable {
		t.Fatalf("%q reads %s of seq %d, want %s up to %d", key, got, at.Seq, want, m.stable)
	}
}

func (m *primaryMachine) Check(t *rapid.T) {
	if got, want := m.p.s.Keys(), int64(len(m.model.newest())); got != want {
		t.Fatalf("%d keys, want %d", got, want)
	}
	if m.dw == m.p.l.End() && !m.p.s.Stats().Sweeping {
		if got := m.p.s.x.entries; got != uint64(len(m.model.newest())) {
			t.Fatalf("%d entries are left in the index of %d keys", got, len(m.model.newest()))
		}
	}
}

func (m *primaryMachine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"write": m.Write, "write again": m.Write, "abort": m.Abort, "stable": m.MoveStable, "everywhere": m.MoveEverywhere,
		"read": m.Read, "": m.Check,
	}
}

func TestPrimaryAgainstModel(t *testing.T) {
	eachFold(t, func(t *testing.T, fold func(uint64) uint64) {
		rapid.Check(t, func(t *rapid.T) {
			m := &primaryMachine{p: newMember(t, small, Primary, fold), model: newModel()}
			actions := m.actions()
			actions["rebuild"] = func(t *rapid.T) {
				m.p.rebuild(t)
				m.stable, m.dw = m.p.l.End(), 0
				if m.stable != m.model.end() {
					t.Fatalf("the log ends at %d after a rebuild, want %d", m.stable, m.model.end())
				}
			}
			t.Repeat(actions)
		})
	})
}

// A crash leaves what the model of persistent memory allows. What was committed to the log is there, groups are whole,
// and what is there is a prefix.
func TestCrashAndRebuild(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		domain := rapid.SampledFrom([]pmem.Domain{pmem.ADR, pmem.EADR}).Draw(t, "domain")
		memory := pmem.Simulate(small.Size(), domain, rapid.Uint64().Draw(t, "seed"))
		must(t, plog.Format(memory, small, identity))
		m := &primaryMachine{p: openMember(t, memory, Primary, nil), model: newModel()}
		durable := uint64(0)
		actions := m.actions()
		actions["commit"] = func(t *rapid.T) {
			m.p.l.Commit()
			durable = m.model.end()
		}
		actions["crash"] = func(t *rapid.T) {
			memory = memory.Crash(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "crash"), 0)))
			m.p = openMember(t, memory, Primary, nil)
			end := m.p.l.End()
			if !slices.Contains(m.model.ends, end) || end < durable {
				t.Fatalf("the log ends at %d after a crash: groups end at %v, and %d was durable", end, m.model.ends, durable)
			}
			m.model.cut(end)
			m.stable, m.dw, durable = end, 0, end
			for n := range 12 {
				m.p.expect(t, strings.Repeat("k", n), m.model.at(end, strings.Repeat("k", n)))
			}
		}
		t.Repeat(actions)
	})
}

func TestCommitRefuses(t *testing.T) {
	p := newMember(t, small, Primary, nil)
	p.set(t, "old", "value")
	big := make([]byte, small.MaxRecord()-plog.RecordHeaderSize-8)
	refuse := func(name string, want error, steps func(tx *Tx)) {
		t.Helper()
		end, tail, entries, keys := p.l.End(), p.l.Tail(), p.s.x.entries, p.s.Keys()
		tx := p.s.Begin()
		steps(tx)
		if dst, err := tx.Commit(make([]plog.Rec, 2)); !errors.Is(err, want) || len(dst) != 2 {
			t.Fatalf("%s: %d records, %v; want %v", name, len(dst), err, want)
		}
		if p.l.End() != end || p.l.Tail() != tail || p.s.x.entries != entries || p.s.Keys() != keys {
			t.Fatalf("%s: something changed", name)
		}
	}
	refuse("large", plog.ErrTooLarge, func(tx *Tx) {
		tx.Set([]byte("a"), nil)
		tx.Set([]byte("b"), append(big, make([]byte, 8)...))
	})
	refuse("many", ErrGroupTooLarge, func(tx *Tx) {
		for i := range small.RingSlots/4 + 1 {
			tx.Set([]byte(numbered("k", int(i))), nil)
		}
	})
	for i := 0; ; i++ {
		tx := p.s.Begin()
		tx.Set([]byte(numbered("k", i)), big)
		if _, err := tx.Commit(nil); errors.Is(err, plog.ErrFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	refuse("full", plog.ErrFull, func(tx *Tx) {
		tx.Del([]byte("k1"))
		tx.Set([]byte("new"), big[:100])
	})
	p.del(t, "old") // from the reserve
	p.flushAll(t)
	if p.s.Keys() != 0 {
		t.Errorf("%d keys after a flush-all", p.s.Keys())
	}
}

// A group may hold as many writes as a quarter of the ring, and finds its own among them.
func TestLargeGroup(t *testing.T) {
	g := small
	g.RingSlots = 4096
	p := newMember(t, g, Primary, nil)
	for round := range 3 {
		tx := p.s.Begin()
		for i := range 1024 {
			tx.Set([]byte(numbered("k", i)), []byte("first"))
			tx.Set([]byte(numbered("k", i)), []byte(numbered("v", i+round)))
		}
		for i := range 1024 {
			if v, ok := tx.Get([]byte(numbered("k", i))); !ok || string(v) != numbered("v", i+round) {
				t.Fatalf("k%d is %q, %v", i, v, ok)
			}
		}
		if n := len(p.commit(t, tx)); n != 1024 {
			t.Fatalf("%d records, want 1024", n)
		}
	}
	if p.s.Keys() != 1024 {
		t.Errorf("%d keys, want 1024", p.s.Keys())
	}
}

// A record that is damaged in memory is an error, never an absent key or another value.
func TestDamagedRecord(t *testing.T) {
	p := newMember(t, small, Primary, nil)
	r := p.set(t, "key", "value")
	p.s.SetStable(r.Seq)
	p.m.Bytes()[small.Arena()+r.Off+uint64(r.Len)-1] ^= 1
	p.expect(t, "key", "dirty")
	tx := p.s.Begin()
	if _, ok := tx.Get([]byte("key")); ok || !errors.Is(tx.Err(), ErrDamaged) {
		t.Errorf("Get: %v, %v; want ErrDamaged", ok, tx.Err())
	}
	tx.Set([]byte("other"), nil)
	if _, err := tx.Commit(nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("Commit: %v, want ErrDamaged", err)
	}
}
