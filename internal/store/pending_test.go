package store

import (
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"whale/internal/plog"
)

// recordOf is a record all fields of which follow from its seq.
func recordOf(seq uint64) plog.Rec {
	h := mix(seq)
	return plog.Rec{Seq: seq, Hash: h, Off: h << 3, Len: uint32(h), Sum: uint32(h >> 7), Flags: plog.Flags(plog.Put)}
}

// A copy of an entry is of one record, although entries are overwritten meanwhile.
func TestPendingCopyIsWhole(t *testing.T) {
	var p pending
	p.init(1) // every record overwrites the one before
	rounds, enough := uint64(20_000_000), int64(1500)
	if raceEnabled {
		rounds, enough = 10_000, 100
	}
	var done atomic.Bool
	var overlaps atomic.Int64 // copies during which something was added
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !done.Load() {
				last := p.drained.Load()
				want := recordOf(max(last, 1))
				if r, ok := p.get(want.Seq); ok && (r.Rec != want || r.bucket != want.Hash) {
					t.Errorf("a copy is %+v, want %+v", r, want)
					return
				}
				if p.drained.Load() != last {
					overlaps.Add(1)
				}
			}
		})
	}
	for seq := uint64(1); seq <= rounds && overlaps.Load() < enough && !t.Failed(); seq++ {
		r := recordOf(seq)
		p.add(r, r.Hash)
		p.drained.Store(seq)
	}
	done.Store(true)
	wg.Wait()
}

// Chains against a list: whatever was added, installed and truncated, a chain has the pending records of its bucket,
// newest first.
func TestPendingAgainstList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p pending
		const slots = 16
		p.init(slots)
		bucketOf := map[uint64]uint64{}
		installed, drained := uint64(0), uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				if p.full() != (drained-installed == slots) {
					t.Fatalf("full is %v with %d pending", p.full(), drained-installed)
				}
				if p.full() {
					t.Skip("full")
				}
				drained++
				bucketOf[drained] = rapid.Uint64Range(0, 3).Draw(t, "bucket") // 0 is the flush-alls'
				p.add(recordOf(drained), bucketOf[drained])
				p.drained.Store(drained)
			},
			"install": func(t *rapid.T) {
				installed = rapid.Uint64Range(installed, drained).Draw(t, "installed")
				p.installed.Store(installed)
			},
			"truncate": func(t *rapid.T) {
				drained = rapid.Uint64Range(installed, drained).Draw(t, "end")
				p.truncate(drained)
				if p.drained.Load() != drained {
					t.Fatalf("drained is %d, want %d", p.drained.Load(), drained)
				}
			},
			"reset": func(t *rapid.T) {
				drained += rapid.Uint64Range(0, 40).Draw(t, "forward")
				installed = drained
				p.reset(drained)
			},
			"": func(t *rapid.T) {
				for bucket := range uint64(4) {
					r, ok := p.newest(bucket)
					for seq := drained; seq > installed; seq-- {
						if bucketOf[seq] != bucket {
							continue
						}
						if !ok || r.Rec != recordOf(seq) {
							t.Fatalf("bucket %d: %+v, %v; want seq %d", bucket, r.Rec, ok, seq)
						}
						r, ok = p.older(r)
					}
					if ok {
						t.Fatalf("bucket %d: %+v beyond its end", bucket, r.Rec)
					}
				}
			},
		})
	})
}
