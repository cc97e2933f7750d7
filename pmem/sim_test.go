package pmem

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// oracle is the model again, kept in another way: for each word all values that it had, from the one that is durable
// for certain to the one in view. What the simulation may leave is one of these, and no other.
type oracle struct {
	domain  Domain
	history [][]uint64
	started []start // write-backs under way
}

// start: the word's value at history[word][index] is on its way.
type start struct{ word, index int }

func newOracle(domain Domain, size uint64) *oracle {
	return &oracle{domain: domain, history: slices.Repeat([][]uint64{{0}}, int(size/8))}
}

// observe records what the view holds.
func (o *oracle) observe(b []byte) {
	for w, h := range o.history {
		if v := binary.LittleEndian.Uint64(b[w*8:]); v != h[len(h)-1] {
			o.history[w] = append(slices.Clone(h), v)
		}
	}
}

// words calls f for each word of the blocks that [off, off+n) touches.
func (o *oracle) words(off, n, block uint64, f func(w int)) {
	if n == 0 {
		return
	}
	for w := range o.history {
		if b := uint64(w) * 8 / block; off/block <= b && b <= (off+n-1)/block {
			f(w)
		}
	}
}

func (o *oracle) persist(off, n uint64) {
	if o.domain == ADR {
		o.words(off, n, 64, func(w int) { o.started = append(o.started, start{w, len(o.history[w]) - 1}) })
	}
}

func (o *oracle) settle(w, index int) {
	o.history[w] = o.history[w][index:]
	for i := range o.started {
		if s := &o.started[i]; s.word == w {
			s.index = max(0, s.index-index)
		}
	}
}

func (o *oracle) fence() {
	switch o.domain {
	case ADR:
		for len(o.started) > 0 {
			s := o.started[0]
			o.started = o.started[1:]
			o.settle(s.word, s.index)
		}
	case EADR:
		for w, h := range o.history {
			o.settle(w, len(h)-1)
		}
	}
}

func (o *oracle) sync(off, n uint64) {
	if o.domain != None {
		o.words(off, n, uint64(pageSize), func(w int) { o.settle(w, len(o.history[w])-1) })
	}
}

// crashed checks what a crash left and goes on from there.
func (o *oracle) crashed(t *rapid.T, left []byte, allowed func(history []uint64) []uint64) {
	o.started = nil
	for w, h := range o.history {
		v := binary.LittleEndian.Uint64(left[w*8:])
		if o.domain == None {
			h = []uint64{0}
		}
		if !slices.Contains(allowed(h), v) {
			t.Fatalf("word %d is %#x after a crash, allowed of %#x are %#x", w, v, h, allowed(h))
		}
		o.history[w] = []uint64{v}
	}
}

func all(h []uint64) []uint64    { return h }
func oldest(h []uint64) []uint64 { return h[:1] }
func newest(h []uint64) []uint64 { return h[len(h)-1:] }

func TestCrashLeavesWhatTheModelAllows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		domain := rapid.SampledFrom([]Domain{ADR, ADR, ADR, EADR, FileShared, FileSynced, None}).Draw(t, "domain")
		size := uint64(pageSize) + 128 + 24 // two pages, the last line partial
		seed := rapid.Uint64().Draw(t, "seed")
		m, o := Simulate(size, domain, seed), newOracle(domain, size)
		rng := rand.New(rand.NewPCG(seed, 1))
		span := func() (off, n uint64) { // about the border of the pages
			off = rapid.Uint64Range(uint64(pageSize)-128, size).Draw(t, "off")
			return off, rapid.Uint64Range(0, min(size-off, 150)).Draw(t, "n")
		}
		next := uint64(0)
		value := func() uint64 { next++; return next * 0x0101010101010101 }
		t.Repeat(map[string]func(*rapid.T){
			"Store64": func(t *rapid.T) {
				off, _ := span()
				m.Store64(min(off, size-8)&^7, value())
			},
			"plain store": func(t *rapid.T) {
				off, n := span()
				copy(m.Bytes()[off:off+n], bytes.Repeat([]byte{byte(value())}, int(n)))
			},
			"CopyNT": func(t *rapid.T) {
				off, n := span()
				m.CopyNT(off, bytes.Repeat([]byte{byte(value())}, int(n)))
				o.observe(m.Bytes())
				o.persist(off, n)
			},
			"Persist": func(t *rapid.T) {
				off, n := span()
				m.Persist(off, n)
				o.persist(off, n)
			},
			"Fence": func(t *rapid.T) { m.Fence(); o.fence() },
			"Sync": func(t *rapid.T) {
				off, n := span()
				if err := m.Sync(off, n); err != nil {
					t.Fatal(err)
				}
				o.sync(off, n)
			},
			"Evict": func(t *rapid.T) { m.Evict(rapid.IntRange(0, 3).Draw(t, "lines")) },
			"Clone": func(t *rapid.T) { m = m.Clone() },
			"Crash": func(t *rapid.T) { m = m.Crash(rng); o.crashed(t, m.Bytes(), all) },
			"CrashDurable": func(t *rapid.T) {
				m = m.CrashDurable()
				o.crashed(t, m.Bytes(), oldest)
			},
			"CrashAll": func(t *rapid.T) { m = m.CrashAll(); o.crashed(t, m.Bytes(), newest) },
			"ProcessCrash": func(t *rapid.T) {
				before := o.history
				m = m.ProcessCrash()
				o.history = slices.Clone(before)
				o.crashed(t, m.Bytes(), newest)
				if domain != None {
					o.history = before // not durable by that
				}
			},
			"": func(t *rapid.T) {
				o.observe(m.Bytes())
				for range 3 { // taking one changes nothing
					probe := *o
					probe.history = slices.Clone(o.history)
					probe.crashed(t, m.Crash(rng).Bytes(), all)
				}
			},
		})
	})
}

// Of what the model allows everything comes up: each subset of the words of two lines, with each value on the way.
func TestCrashLeavesAllThatTheModelAllows(t *testing.T) {
	s := Simulate(256, ADR, 1)
	for _, off := range []uint64{0, 8, 64} {
		s.Store64(off, 1)
	}
	s.Persist(0, 72)
	s.Fence()
	s.Store64(0, 2)
	s.Store64(64, 2)
	s.Persist(64, 8) // on its way with 2
	s.Store64(64, 4)
	s.Evict(2)
	s.Store64(0, 3)
	s.Store64(8, 3)
	s.Store64(64, 3)
	seen := map[[3]uint64]bool{}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 5000 {
		c := s.Crash(rng)
		seen[[3]uint64{c.Load64(0), c.Load64(8), c.Load64(64)}] = true
	}
	if len(seen) != 3*2*4 {
		t.Errorf("%d of 24 outcomes: %v", len(seen), seen)
	}
}

// Few lines among many are lost, or survive, alone.
func TestCrashIsLopsidedToo(t *testing.T) {
	const lines = 200
	s := Simulate(lines*64, ADR, 1)
	for i := range uint64(lines) {
		s.Store64(i*64, 1)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	few, most := false, false
	for range 2000 {
		c, n := s.Crash(rng), uint64(0)
		for i := range uint64(lines) {
			n += c.Load64(i * 64)
		}
		few, most = few || 0 < n && n <= 3, most || lines-3 <= n && n < lines
	}
	if !few || !most {
		t.Errorf("few survive: %v; few are lost: %v", few, most)
	}
}

// An eviction by chance can keep a value that was stored over without any flush.
func TestEvictionsHappenByChance(t *testing.T) {
	for _, domain := range []Domain{FileShared, ADR, EADR} {
		kept := 0
		for seed := range uint64(200) {
			s := Simulate(128, domain, seed)
			s.Store64(64, 1)
			s.Persist(0, 8) // another line
			s.Store64(64, 2)
			if s.Crash(rand.New(rand.NewPCG(seed, 1))).Load64(64) == 1 {
				kept++
			}
		}
		if kept == 0 || kept == 200 {
			t.Errorf("%v: %d of 200", domain, kept)
		}
	}
}

// A write-back that Sync has overtaken does not bring the older value back at the next Fence.
func TestSyncOvertakesFlushes(t *testing.T) {
	s := Simulate(64, ADR, 1)
	s.Store64(0, 1)
	s.Persist(0, 8)
	s.Store64(0, 2)
	s.Sync(0, 8)
	s.Fence()
	if got := s.CrashDurable().Load64(0); got != 2 {
		t.Errorf("%d is durable after 2 was synced", got)
	}
}

func TestSameSeedSameCrash(t *testing.T) {
	run := func(seed uint64) []byte {
		s := Simulate(4096, ADR, seed)
		rng := rand.New(rand.NewPCG(seed, 1))
		for i := range uint64(300) {
			s.Store64(rng.Uint64N(512)*8, i)
			s.Persist(rng.Uint64N(4000), 64)
			if i%7 == 0 {
				s.Fence()
			}
			if i%50 == 0 {
				s.Evict(3)
			}
			if i%100 == 0 {
				s = s.Clone().Crash(rng)
			}
		}
		return s.Crash(rng).Bytes()
	}
	if !bytes.Equal(run(1), run(1)) {
		t.Error("two runs differ")
	}
	if bytes.Equal(run(1), run(2)) {
		t.Error("another seed gives the same")
	}
}

func TestCloneIsIndependent(t *testing.T) {
	s := Simulate(64, ADR, 1)
	s.Store64(0, 1)
	s.Persist(0, 8)
	c := s.Clone()
	s.Store64(0, 2)
	c.Fence()
	if got := c.CrashDurable().Load64(0); got != 1 {
		t.Errorf("clone: %d, expected the flush of before", got)
	}
	if got := s.CrashDurable().Load64(0); got != 0 {
		t.Errorf("original: %d, expected nothing durable", got)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	s := Simulate(512, ADR, 1)
	s.Persist(0, 3*64)
	c := s.Clone()
	s.Store64(192, 1)
	s.Persist(192, 8)
	c.Store64(256, 1)
	c.Persist(256, 8)
	s.Fence()
	if got := s.CrashDurable().Load64(192); got != 1 {
		t.Error("a flush of the original went into the clone")
	}
	c.Store64(320, 1)
	c.Evict(len(c.view))
	for seed := range uint64(50) {
		if s.Crash(rand.New(rand.NewPCG(seed, 1))).Load64(320) != 0 {
			t.Fatal("an eviction of the clone went into the original")
		}
	}
}

// From one state on the same calls have the same outcome: nothing of the state is left out.
func TestCloneGoesOnAlike(t *testing.T) {
	for seed := range uint64(50) {
		s := Simulate(1024, ADR, seed)
		s.Store64(0, 1)
		s.Store64(64, 1)
		s.Persist(64, 8)
		s.Evict(1)
		c := s.Clone()
		left := func(s *Simulated) []byte {
			for i := range uint64(100) {
				s.Store64(i%16*64, i)
				s.Persist(512, 64)
			}
			return s.Crash(rand.New(rand.NewPCG(seed, 1))).Bytes()
		}
		if !bytes.Equal(left(s), left(c)) {
			t.Fatal("the clone goes another way")
		}
	}
}

// The flushes of a process die with it.
func TestProcessCrashForgetsFlushes(t *testing.T) {
	s := Simulate(64, ADR, 1)
	s.Store64(0, 1)
	s.Persist(0, 8)
	p := s.ProcessCrash()
	p.Fence()
	if got := p.Load64(0); got != 1 {
		t.Errorf("the process finds %d", got)
	}
	if got := p.CrashDurable().Load64(0); got != 0 {
		t.Errorf("%d survives the power without a flush of the new process", got)
	}
}

// Threads share the memory, each with its own lines, while crashes are taken. (For the race detector.)
func TestSimulatedIsForAnyGoroutine(t *testing.T) {
	const workers, own = 4, 256
	s := Simulate(workers*own, ADR, 1)
	var wg sync.WaitGroup
	for w := range uint64(workers) {
		wg.Go(func() {
			mine := s.Bytes()[w*own:][:own]
			for i := range 500 {
				for j := range mine {
					mine[j] = byte(i)
				}
				s.Persist(w*own, own)
				s.Fence()
				s.Store64(w*own, s.Load64(w*own))
			}
		})
	}
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(1, 1))
		for range 100 {
			s.Crash(rng)
			s.Clone().Evict(2)
		}
	})
	wg.Wait()
	want := bytes.Repeat([]byte{byte(499 & 255)}, workers*own)
	if !bytes.Equal(s.CrashDurable().Bytes(), want) {
		t.Error("fenced bytes are not durable")
	}
}

func TestImageIsWhatCrashDurableLeaves(t *testing.T) {
	for _, domain := range []Domain{None, FileShared, ADR, EADR} {
		s := Simulate(256, domain, 1)
		copy(s.Bytes(), "certain")
		s.Persist(0, 64)
		s.Fence()
		copy(s.Bytes()[64:], "on its way")
		s.Persist(64, 64)
		if got, want := string(s.Image()), string(s.CrashDurable().Bytes()); got != want {
			t.Errorf("%v: the image is %q, a crash leaves %q", domain, got, want)
		}
	}
}

// TestCrashEach: all memories, each once, and each one that Crash draws is among them.
func TestCrashEach(t *testing.T) {
	m := Simulate(256, ADR, 1)
	m.Store64(128, 4)
	m.Persist(128, 8)
	m.Fence()         // certain
	m.Store64(72, 5)  // 0 or 5
	m.Store64(200, 6) //
	m.Persist(192, 64)
	m.Store64(200, 7) // 0, 6 or 7
	seen := map[string]bool{}
	if !m.CrashEach(6, func(c *Simulated) {
		if seen[string(c.Bytes())] {
			t.Error("a memory came twice")
		}
		seen[string(c.Bytes())] = true
	}) || len(seen) != 6 {
		t.Fatalf("%d memories, want 6", len(seen))
	}
	if m.CrashEach(5, func(*Simulated) { t.Error("called beyond the limit") }) {
		t.Error("more memories than the limit")
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		if !seen[string(m.Crash(rng).Bytes())] {
			t.Fatal("Crash drew a memory that CrashEach left out")
		}
	}
}

// TestFenceIsItsThreads: a Fence covers what its own thread has persisted; what another one persisted of the same line before goes with
// it, and is never put over what is newer.
func TestFenceIsItsThreads(t *testing.T) {
	m := Simulate(128, ADR, 1)
	put := func(thread int, off, v uint64) {
		m.As(thread)
		m.Store64(off, v)
		m.Persist(off, 8)
	}
	fence := func(thread int) {
		m.As(thread)
		m.Fence()
	}
	want := func(what string, first, second uint64) {
		t.Helper()
		if c := m.CrashDurable(); c.Load64(0) != first || c.Load64(64) != second {
			t.Errorf("%s: %d and %d are durable, want %d and %d", what, c.Load64(0), c.Load64(64), first, second)
		}
	}
	put(1, 0, 1)
	put(2, 64, 2)
	fence(2)
	want("a fence of thread 2", 0, 2)
	put(2, 0, 3)
	fence(2)
	want("of the line that thread 1 has persisted before", 3, 2)
	fence(1)
	want("thread 1's own", 3, 2)
	put(1, 0, 4)
	put(2, 0, 5)
	fence(1)
	want("of what is older than another's", 4, 2)
	fence(2)
	want("and of the newer one", 5, 2)
}
