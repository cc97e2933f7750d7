package plog

import (
	"testing"

	"pgregory.net/rapid"
)

// TestPrimaryAndBackup drives a primary and a backup through appends, transfers, commits, view changes, cuts and
// restarts, against a list of what was appended.
func TestPrimaryAndBackup(t *testing.T) {
	skipUnderRace(t)
	rapid.Check(t, func(t *rapid.T) {
		g := smallGeometry
		p, b := newLog(t, g), newLog(t, g)
		epoch := uint32(1)
		var model []Record // by seq - 1, of P's log
		var sent []Rec

		check := func(l *Log, n int) {
			t.Helper()
			if l.End() != uint64(n) {
				t.Fatalf("ends at %d, want %d", l.End(), n)
			}
			it, err := l.Seek(1)
			must(t, err)
			for i := range n {
				rec, r, ok := it.Next()
				if !ok || !equalRecords(r, model[i]) || !l.Verify(rec) {
					t.Fatalf("seq %d is %+v %v, want %+v", i+1, r, ok, model[i])
				}
			}
			if tail := l.Tail(); it.off != tail && n > 0 {
				t.Fatalf("tail %d, the walk ends at %d", tail, it.off)
			}
		}
		groupEnd := func(n int) int {
			for n > 0 && !model[n-1].GroupEnd {
				n--
			}
			return n
		}
		// view starts an epoch at P's end on both, and drops at both what lies above.
		view := func() {
			epoch++
			e := EpochEntry{epoch, p.End() + 1, p.Tail()}
			for _, l := range []*Log{p, b} {
				must(t, l.SetEpoch(epoch))
				must(t, l.AddEntry(e))
			}
			model = model[:p.End()]
			sent = recs(t, p)
			check(p, len(model))
			check(b, min(int(b.End()), len(model)))
		}

		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				n := rapid.IntRange(1, 4).Draw(t, "group")
				var sizes []uint64
				var group []Record
				for i := range n {
					key := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "key")
					value := pattern(string(key), rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(0, 20000), rapid.Just(65472-64-20)).Draw(t, "size"))
					group = append(group, Record{Kind: Put, GroupEnd: i == n-1, Key: key, Value: value, Prev: uint64(8 * i), Deadline: int64(-i), Client: 1, Request: uint64(i)})
					sizes = append(sizes, RecordSize(len(key), len(value)))
				}
				if !p.Fits(sizes, rapid.Bool().Draw(t, "reserve")) {
					return
				}
				for _, r := range group {
					sent = append(sent, appendRecord(t, p, &r)) // Fits promised it
					r.Epoch, r.Seq = epoch, p.End()
					model = append(model, r)
				}
			},
			"send": func(t *rapid.T) {
				for range rapid.IntRange(1, 5).Draw(t, "records") {
					if b.End() < p.End() {
						receive(t, p, b, sent[b.End()])
					}
				}
			},
			"send what is not taken": func(t *rapid.T) {
				if b.End() < p.End() {
					send(p, b, sent[rapid.IntRange(int(b.End()), int(p.End())-1).Draw(t, "record")])
				}
			},
			"commit": func(t *rapid.T) {
				p.Commit()
				b.Commit()
				if b.Control().Durable() != Word(epoch, b.End()) {
					t.Fatalf("durable %x", b.Control().Durable())
				}
			},
			"view change": func(t *rapid.T) { view() },
			"P restarts": func(t *rapid.T) {
				p = reopen(t, p.Memory())
				if want := groupEnd(len(model)); p.End() != uint64(want) {
					t.Fatalf("P recovered to %d, want %d of %d", p.End(), want, len(model))
				}
				view()
			},
			"backup restarts": func(t *rapid.T) {
				before := int(b.End())
				b = reopen(t, b.Memory())
				// What was sent and not taken may be found.
				if end := int(b.End()); end < groupEnd(before) || end != groupEnd(end) {
					t.Fatalf("the backup recovered to %d of %d", end, before)
				}
				view()
			},
			"P drops records": func(t *rapid.T) {
				seq := groupEnd(rapid.IntRange(0, len(model)).Draw(t, "to"))
				must(t, p.CutTo(uint64(seq)))
				view()
			},
			"": func(t *rapid.T) {
				check(p, len(model))
				check(b, int(b.End()))
				prefixEqual(t, p, b)
			},
		})
	})
}
