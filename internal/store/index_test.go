package store

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

func mustIndex(t testing.TB, maxEntries uint64) *index {
	t.Helper()
	x, err := newIndex(maxEntries)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// has says whether the index has that entry, as a reader would find out.
func (x *index) has(hash, offset uint64) bool {
	for {
		before := x.generation.Load()
		for p := x.probe(hash); ; {
			switch p.next() {
			case offset:
				return true
			case 0:
				if x.generation.Load() == before {
					return false
				}
			default:
				continue
			}
			break
		}
	}
}

// hashes are ways to make a hash of a number: good ones, and such as somebody would choose who wants to do harm.
var hashes = map[string]func(n uint64) uint64{
	"good":         func(n uint64) uint64 { return mix(n) },
	"equal":        func(n uint64) uint64 { return 0xfeedfacecafebeef },
	"few":          func(n uint64) uint64 { return mix(n%7) | 1 },
	"one prefix":   func(n uint64) uint64 { return mix(n) >> 20 },
	"one line":     func(n uint64) uint64 { return mix(n) &^ (63 << 32) },
	"zero tag":     func(n uint64) uint64 { return mix(n) & (0xff<<56 | 0xffffffff) },
	"halves":       func(n uint64) uint64 { return 1<<63>>(n%40) | mix(n)>>40 },
	"groups":       func(n uint64) uint64 { return mix(n/33)&^(1<<38-1) | n },
	"dense prefix": func(n uint64) uint64 { return n << 32 },
}

// mix is the finalizer of splitmix64.
func mix(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

func TestIndexAgainstMap(t *testing.T) {
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				const universe = 1 << 12
				x, err := newIndex(1 << 14)
				if err != nil {
					t.Fatal(err)
				}
				at := map[uint64]uint64{} // number to offset
				offset := uint64(64)
				rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
				growth := rapid.IntRange(2, 8).Draw(t, "growth") // of 10 steps that are not on a present number
				for range rapid.IntRange(1, 3000).Draw(t, "steps") {
					n := rng.Uint64N(universe)
					old, present := at[n]
					offset += 8
					switch {
					case !present && rng.IntN(10) < growth:
						x.insert(hash(n), offset)
						at[n] = offset
					case present && rng.IntN(10) < growth:
						p, ok := x.find(hash(n), old)
						if !ok {
							t.Fatalf("%d at %d is gone", n, old)
						}
						p.replace(offset)
						at[n] = offset
					case present:
						p, ok := x.find(hash(n), old)
						if !ok {
							t.Fatalf("%d at %d is gone", n, old)
						}
						p.remove()
						delete(at, n)
						if x.has(hash(n), old) {
							t.Fatalf("%d at %d was removed and is there", n, old)
						}
					}
				}
				checkIndex(t, x, at, hash)
				// Drop a half by scanning, as sweeping does.
				seen := map[uint64]bool{}
				for cursor, first := uint64(0), true; first || cursor != 0; first = false {
					cursor = x.scan(cursor, func(offset uint64) bool {
						if seen[offset] {
							t.Fatalf("offset %d was visited twice", offset)
						}
						seen[offset] = true
						return offset&8 == 0
					})
				}
				for n, offset := range at {
					if !seen[offset] {
						t.Fatalf("%d at %d was not visited", n, offset)
					}
					if offset&8 != 0 {
						delete(at, n)
					}
				}
				checkIndex(t, x, at, hash)
			})
		})
	}
}

func checkIndex(t *rapid.T, x *index, at map[uint64]uint64, hash func(uint64) uint64) {
	t.Helper()
	for n, offset := range at {
		if !x.has(hash(n), offset) {
			t.Fatalf("%d at %d is missing", n, offset)
		}
	}
	if x.entries != uint64(len(at)) {
		t.Fatalf("%d entries, want %d", x.entries, len(at))
	}
	count := uint64(0)
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		cursor = x.scan(cursor, func(uint64) bool { count++; return true })
	}
	if count != x.entries {
		t.Fatalf("a scan visits %d entries of %d", count, x.entries)
	}
}

// Whatever the hashes, the index fits into what it reserved, and the directory does not grow without blocks.
func TestIndexIsBounded(t *testing.T) {
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			const n = 12_000
			x := mustIndex(t, n)
			for i := range uint64(n) {
				x.insert(hash(i), 64+8*i)
			}
			if used, limit := uint64(x.next), uint64(len(x.words)/blockWords); used > limit {
				t.Errorf("%d blocks, reserved %d", used, limit)
			}
			if d := uint64(1) << x.depth.Load(); d > maxDirectory(uint64(x.next)) {
				t.Errorf("a directory of %d for %d blocks", d, x.next)
			}
			t.Logf("%.1f bytes an entry, directory of %d, %d blocks", float64(x.bytes())/n, 1<<x.depth.Load(), x.next)
		})
	}
}

func TestIndexScanWhileGrowing(t *testing.T) {
	x := mustIndex(t, 200_000)
	const old, step = 20_000, 300
	for i := range uint64(old) {
		x.insert(mix(i), 64+8*i)
	}
	seen := map[uint64]int{}
	added := uint64(old)
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		cursor = x.scan(cursor, func(offset uint64) bool { seen[offset]++; return true })
		for range step {
			x.insert(mix(added), 64+8*added)
			added++
		}
	}
	for i := range added {
		if n := seen[64+8*i]; n > 1 || n == 0 && i < old {
			t.Fatalf("entry %d of %d old ones was visited %d times", i, old, n)
		}
	}
	if x.depth.Load() <= minDepth {
		t.Fatal("the directory did not grow: the test shows nothing")
	}
}

// A probe that began before its block was replaced, and goes on after the block was used again, ends empty. The
// generation tells: a reader without that check would miss the entry.
func TestIndexProbeOfReplacedBlock(t *testing.T) {
	x := mustIndex(t, 1<<20)
	const n = 64
	for i := range uint64(n) {
		x.insert(mix(i), 64+8*i)
	}
	before := x.generation.Load()
	var probes [n]probe
	for i := range probes {
		probes[i] = x.probe(mix(uint64(i)))
	}
	for i := range uint64(200_000) {
		x.insert(mix(n+i), 64+8*(n+i))
	}
	missed := 0
	for i := range probes {
		found := false
		for offset := probes[i].next(); offset != 0; offset = probes[i].next() {
			found = found || offset == 64+8*uint64(i)
		}
		if !found {
			missed++
		}
		if !x.has(mix(uint64(i)), 64+8*uint64(i)) {
			t.Errorf("entry %d is missing", i)
		}
	}
	if missed == 0 {
		t.Error("no block was used again: the test shows nothing")
	}
	if x.generation.Load() == before {
		t.Error("the generation did not move")
	}
}

// An entry that is removed and comes back in front of a probe that is on its way is missed by that probe, and the
// generation tells.
func TestIndexProbeOverRemoval(t *testing.T) {
	x := mustIndex(t, 1<<10)
	const hash = 1 << 40
	x.insert(hash, 64)
	x.insert(hash, 72)
	x.insert(hash, 80)
	before := x.generation.Load()
	p := x.probe(hash)
	if got := p.next(); got != 64 {
		t.Fatalf("the first candidate is %d", got)
	}
	x.drop(hash, 64)
	x.drop(hash, 80)
	x.insert(hash, 80)
	for offset := p.next(); offset != 0; offset = p.next() {
		if offset == 80 {
			t.Fatal("not missed: the test shows nothing")
		}
	}
	if x.generation.Load() == before {
		t.Error("the generation did not move")
	}
}

// Where nothing overflowed, a removal leaves no marker: those would make every miss look at a whole window.
func TestIndexRemovalCleansUp(t *testing.T) {
	x := mustIndex(t, 1<<10)
	for i := range uint64(1000) {
		x.insert(mix(i), 64+8*i)
		x.drop(mix(i), 64+8*i)
	}
	for i, w := range x.words[blockWords : blockWords*(1<<minDepth)] {
		if w != 0 {
			t.Fatalf("word %d is %x", i, w)
		}
	}
}

// Readers look for entries that are there throughout, while the writer inserts and removes around them.
func TestIndexReadersNeverMiss(t *testing.T) {
	const stay, churn = 1000, 40_000
	x := mustIndex(t, stay+4*churn)
	for i := range uint64(stay) {
		x.insert(mix(i), 64+8*i)
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	for r := range uint64(3) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(r, 1))
			for !done.Load() {
				i := rng.Uint64N(stay)
				if !x.has(mix(i), 64+8*i) {
					t.Errorf("entry %d was missed", i)
					return
				}
				runtime.Gosched()
			}
		})
	}
	for round := range uint64(3) {
		for i := range uint64(churn) {
			x.insert(mix(stay+i), 64+8*(stay+round*churn+i))
			if i%64 == 0 {
				runtime.Gosched()
			}
		}
		last := 64 + 8*(stay+round*churn+churn-1)
		switch round {
		case 0:
			for i := range uint64(churn) {
				p, ok := x.find(mix(stay+i), 64+8*(stay+i))
				if !ok {
					t.Fatalf("entry %d is missing", stay+i)
				}
				p.remove()
			}
		default:
			for cursor, first := uint64(0), true; first || cursor != 0; first = false {
				cursor = x.scan(cursor, func(offset uint64) bool { return offset < 64+8*stay || offset > last })
			}
		}
	}
	done.Store(true)
	wg.Wait()
	if x.entries != stay {
		t.Errorf("%d entries, want %d", x.entries, stay)
	}
}

func TestIndexBytesPerKey(t *testing.T) {
	if raceEnabled {
		t.Skip("a figure, not a behaviour")
	}
	const million = 1_000_000
	x := mustIndex(t, 2*million)
	worst := 0.0
	for i := range uint64(million) {
		x.insert(mix(i), 64+8*i)
		if i > 200_000 {
			worst = max(worst, float64(x.bytes())/float64(i))
		}
	}
	per := float64(x.bytes()) / million
	t.Logf("%.1f bytes a key at 1 M keys, at most %.1f from 200 k on; directory of depth %d", per, worst, x.depth.Load())
	if worst > 32 {
		t.Errorf("%.1f bytes a key, want at most 32", worst)
	}
}

func BenchmarkIndexProbe(b *testing.B) {
	const million = 1 << 20
	x := mustIndex(b, 2*million)
	for i := range uint64(million) {
		x.insert(mix(i), 64+8*i)
	}
	for _, c := range []struct {
		name string
		base uint64
	}{{"hit", 0}, {"miss", 1 << 40}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			n, false := uint64(0), 0
			for b.Loop() {
				i := mix(n^0x5555) % million
				p := x.probe(mix(c.base + i))
				for o := p.next(); o != 0; o = p.next() {
					if o == 64+8*i && c.base == 0 {
						break
					}
					false++
				}
				n++
			}
			b.ReportMetric(float64(false)/float64(b.N), "false/op")
		})
	}
}

func BenchmarkIndexInsert(b *testing.B) {
	b.ReportAllocs()
	const limit = 4 << 20
	x := mustIndex(b, limit)
	n := uint64(0)
	for b.Loop() {
		if n == limit {
			b.StopTimer()
			x, n = mustIndex(b, limit), 0
			b.StartTimer()
		}
		x.insert(mix(n), 64+8*n)
		n++
	}
}
