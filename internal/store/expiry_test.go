package store

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// expiryMachine holds transactions with deadlines, scans and watches against maps. Time is what the test says it is.
type expiryMachine struct {
	p       *member
	now     int64
	keys    map[string]timed
	changed map[string]uint64 // seq after which the key was as it is
	stamps  []uint64
}

type timed struct {
	value    string
	deadline int64
}

func (m *expiryMachine) alive(key string) (timed, bool) {
	v, ok := m.keys[key]
	return v, ok && (v.deadline == 0 || v.deadline > m.now)
}

func (m *expiryMachine) clock() int64 { return m.now }

// commit takes over what the transaction did: the keys named have changed.
func (m *expiryMachine) commit(t *rapid.T, tx *Tx, changed map[string]bool) {
	m.p.commit(t, tx)
	for k := range changed {
		m.changed[k] = m.p.l.End()
	}
}

func (m *expiryMachine) Transaction(t *rapid.T) {
	tx := m.p.s.Begin()
	changed := map[string]bool{}
	for range rapid.IntRange(1, 6).Draw(t, "steps") {
		key := someKeys.Draw(t, "key")
		old, alive := m.alive(key)
		if _, there := m.keys[key]; there && !alive {
			changed[key] = true // met now, or overwritten: either way it is another key
		}
		switch rapid.IntRange(0, 5).Draw(t, "op") {
		case 0:
			if v, ok := tx.Get([]byte(key)); ok != alive || alive && string(v) != old.value {
				t.Fatalf("at %d Get(%q) = %q, %v; want %+v, %v", m.now, key, v, ok, old, alive)
			}
			if !alive {
				delete(m.keys, key)
			}
		case 1:
			if at, ok := tx.Deadline([]byte(key)); ok != alive || alive && at != old.deadline {
				t.Fatalf("at %d Deadline(%q) = %d, %v; want %+v, %v", m.now, key, at, ok, old, alive)
			}
			if !alive {
				delete(m.keys, key)
			}
		case 2, 3:
			v := timed{value: fmt.Sprint(m.p.l.End())}
			if rapid.Bool().Draw(t, "expires") {
				v.deadline = m.now + rapid.Int64Range(1, 50).Draw(t, "in")
			}
			tx.SetUntil([]byte(key), []byte(v.value), v.deadline)
			m.keys[key], changed[key] = v, true
		case 4:
			if ok := tx.Del([]byte(key)); ok != alive {
				t.Fatalf("at %d Del(%q) = %v, want %v", m.now, key, ok, alive)
			}
			if alive {
				changed[key] = true
			}
			delete(m.keys, key)
		case 5:
			m.compareScan(t, tx)
		}
	}
	m.commit(t, tx, changed)
}

func (m *expiryMachine) FlushAll(t *rapid.T) {
	tx := m.p.s.Begin()
	tx.FlushAll()
	changed := map[string]bool{}
	for k := range m.keys {
		changed[k] = true
	}
	clear(m.keys)
	m.commit(t, tx, changed)
}

func (m *expiryMachine) TimePasses(t *rapid.T) { m.now += rapid.Int64Range(1, 20).Draw(t, "ms") }

// Expire removes all that is due, as the primary's loop does.
func (m *expiryMachine) Expire(t *rapid.T) {
	for n := 0; m.p.s.Overdue(); n++ {
		if n > 10_000 {
			t.Fatalf("Expire does not come to an end")
		}
		before := m.p.l.End()
		m.commit(t, m.p.s.Expire(), nil)
		for k := range m.keys {
			if _, alive := m.alive(k); !alive {
				if _, found := m.alive(k); !found && m.p.l.End() > before {
					m.changed[k] = max(m.changed[k], before+1)
				}
			}
		}
	}
	for k := range m.keys {
		if _, alive := m.alive(k); !alive {
			delete(m.keys, k)
		}
	}
	if got := m.p.s.Keys(); got != int64(len(m.keys)) {
		t.Fatalf("%d keys after all that was due is gone, want %d", got, len(m.keys))
	}
}

func (m *expiryMachine) EverywhereAndSweep(t *rapid.T) {
	m.p.s.SetStable(m.p.l.End())
	for range 600 {
		m.p.s.Everywhere(m.p.l.End())
	}
}

func (m *expiryMachine) Rebuild(t *rapid.T) { m.p.rebuild(t) }

func (m *expiryMachine) Read(t *rapid.T) {
	m.p.s.SetStable(m.p.l.End())
	key := someKeys.Draw(t, "key")
	want := "miss"
	if v, alive := m.alive(key); alive {
		want = "=" + v.value
	} else if _, there := m.keys[key]; there {
		want = "expired"
	}
	value, v, at := m.p.s.Read([]byte(key), nil)
	if got := answer(value, v); got != want || v == Hit && at.Deadline != m.keys[key].deadline {
		t.Fatalf("at %d %q reads %s until %d, want %s of %+v", m.now, key, got, at.Deadline, want, m.keys[key])
	}
}

func (m *expiryMachine) Stamp(t *rapid.T) { m.stamps = append(m.stamps, m.p.s.Begin().Stamp()) }

// Changed must not miss a change. Of a key that is there it must not invent one either.
func (m *expiryMachine) Changed(t *rapid.T) {
	if len(m.stamps) == 0 {
		return
	}
	key, stamp := someKeys.Draw(t, "key"), rapid.SampledFrom(m.stamps).Draw(t, "stamp")
	_, alive := m.alive(key)
	_, there := m.keys[key]
	want := m.changed[key] > stamp || there && !alive
	got := m.p.s.Begin().Changed([]byte(key), stamp)
	if want && !got || got && !want && alive {
		t.Fatalf("Changed(%q, %d) = %v, want %v: it changed at %d", key, stamp, got, want, m.changed[key])
	}
}

func (m *expiryMachine) compareScan(t *rapid.T, tx *Tx) {
	var got, want []string
	for cursor := uint64(0); ; {
		cursor = tx.Scan(cursor, func(key []byte) { got = append(got, string(key)) })
		if cursor == 0 {
			break
		}
	}
	for k := range maps.Keys(m.keys) {
		if _, alive := m.alive(k); alive {
			want = append(want, k)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("a scan finds %q, want %q", got, want)
	}
}

func (m *expiryMachine) Check(t *rapid.T) {
	m.compareScan(t, m.p.s.Begin())
	for k, v := range m.keys {
		if next := m.p.s.NextAlarm(); v.deadline != 0 && (next == 0 || next > v.deadline) {
			t.Fatalf("%q expires at %d, and the next alarm is at %d", k, v.deadline, next)
		}
	}
	timed := int64(0)
	for _, v := range m.keys {
		if v.deadline != 0 {
			timed++
		}
	}
	if got := m.p.s.Timed(); got != timed {
		t.Fatalf("%d keys with a deadline, want %d", got, timed)
	}
	if n := len(m.p.s.alarms); n > 400 {
		t.Fatalf("%d alarms for %d keys", n, len(m.keys))
	}
}

func TestExpiryAgainstMaps(t *testing.T) {
	eachFold(t, func(t *testing.T, fold func(uint64) uint64) {
		rapid.Check(t, func(t *rapid.T) {
			m := &expiryMachine{p: newMember(t, small, Primary, fold), now: 1000, keys: map[string]timed{}, changed: map[string]uint64{}}
			m.p.s.SetClock(m.clock)
			t.Repeat(rapid.StateMachineActions(m))
		})
	})
}

// TestRefreshedDeadlinesNeedOneAlarm: putting a deadline off, which sessions do with every request, costs no memory.
func TestRefreshedDeadlinesNeedOneAlarm(t *testing.T) {
	p := newMember(t, small, Primary, nil)
	now := int64(1)
	p.s.SetClock(func() int64 { return now })
	for range 1000 {
		now++
		tx := p.s.Begin()
		tx.SetUntil([]byte("session"), []byte("x"), now+10)
		p.commit(t, tx)
		for p.s.Overdue() {
			p.commit(t, p.s.Expire())
		}
	}
	if n := len(p.s.alarms); n != 1 {
		t.Errorf("%d alarms for one key", n)
	}
	if p.s.Keys() != 1 {
		t.Error("the key went although its deadline was put off")
	}
}

// TestScanWhileTheIndexGrows: a key that is there all the time is found once, whatever is inserted between two steps.
func TestScanWhileTheIndexGrows(t *testing.T) {
	p := newMember(t, small, Primary, nil)
	const stay = 300
	for i := range stay {
		p.set(t, numbered("stay", i), "")
	}
	found := map[string]int{}
	more, cursor := 0, uint64(0)
	for {
		cursor = p.s.Begin().Scan(cursor, func(key []byte) { found[string(key)]++ })
		if cursor == 0 {
			break
		}
		for range 16 {
			more++
			if more < 3000 {
				p.set(t, numbered("more", more), "")
			}
		}
	}
	for i := range stay {
		if n := found[numbered("stay", i)]; n != 1 {
			t.Errorf("key %d was found %d times", i, n)
		}
	}
}

// TestFlushOfNothing: a flush-all changes the keys that were there, not one that an earlier flush-all had taken already.
func TestFlushOfNothing(t *testing.T) {
	p := newMember(t, small, Primary, nil)
	p.set(t, "key", "")
	p.flushAll(t)
	stamp := p.s.Begin().Stamp()
	p.flushAll(t)
	if p.s.Begin().Changed([]byte("key"), stamp) {
		t.Error("the key was absent before and after")
	}
	if !p.s.Begin().Changed([]byte("key"), 1) {
		t.Error("the first flush-all has taken it")
	}
}
