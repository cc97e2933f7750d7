package pmem

import (
	"maps"
	"math/rand/v2"
	"slices"
	"unsafe"
)

// Crash is a memory that a loss of power at this moment could leave, drawn with rng; the same domain, all of it durable,
// and evictions of its own drawn with rng too. Every memory that the model allows has a chance.
func (s *Simulated) Crash(rng *rand.Rand) *Simulated {
	s.mu.Lock()
	defer s.mu.Unlock()
	// The odds are drawn for each crash anew: with fixed ones, a few lines among many would never be lost alone.
	untouched, whole := rng.Float64(), rng.Float64()
	c := s.crash(func(_ uint64, possible []line) (left line) {
		switch {
		case rng.Float64() < untouched:
			return possible[0]
		case rng.Float64() < whole:
			return possible[1+rng.IntN(len(possible)-1)]
		}
		for w := range left {
			left[w] = possible[rng.IntN(len(possible))][w]
		}
		return left
	})
	c.rng.Seed(rng.Uint64(), 0)
	return c
}

// Image is what is durable for certain: what [Simulated.CrashDurable] would leave. It is for looking at, and good until the
// next call of another method.
func (s *Simulated) Image() []byte {
	if len(s.image) == 0 || s.domain == None {
		return make([]byte, len(s.mem))
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&s.image[0])), len(s.mem))
}

// CrashDurable is the loss of power after which nothing is left but what was certain to be: no eviction happened and
// no snapshot arrived before its Fence.
func (s *Simulated) CrashDurable() *Simulated {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crash(func(_ uint64, possible []line) line { return possible[0] })
}

// CrashAll is the loss of power before which everything became durable by chance.
func (s *Simulated) CrashAll() *Simulated {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crash(func(_ uint64, possible []line) line { return possible[len(possible)-1] })
}

// CrashEach calls f with every memory that a loss of power at this moment could leave, one after the other. There are as
// many as the product of the numbers of values that each uncertain word may have; if that is more than limit, f is not
// called, and the answer is false.
func (s *Simulated) CrashEach(limit int, f func(*Simulated)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	type choice struct {
		at     uint64
		word   int
		values []uint64
	}
	var choices []choice
	count := 1
	base := s.crash(func(at uint64, possible []line) line {
		for w := range possible[0] {
			var values []uint64
			for _, held := range possible {
				if !slices.Contains(values, held[w]) {
					values = append(values, held[w])
				}
			}
			if len(values) > 1 {
				choices = append(choices, choice{at, w, values})
				count = min(count*len(values), limit+1)
			}
		}
		return possible[0]
	})
	if count > limit {
		return false
	}
	var walk func(int)
	walk = func(i int) {
		if i == len(choices) {
			f(base.Clone())
			return
		}
		c := choices[i]
		for _, v := range c.values {
			base.view[c.at][c.word], base.image[c.at][c.word] = v, v
			walk(i + 1)
		}
	}
	walk(0)
	return true
}

// crash is a memory in which choose has decided about every line, at, that is not certain. Of the possible ones the first is
// the image's and the last the view's.
func (s *Simulated) crash(choose func(at uint64, possible []line) line) *Simulated {
	c := newSimulated(uint64(len(s.mem)), s.domain)
	c.rng = s.rng
	if s.domain == None {
		return c
	}
	between := map[uint64][]line{}
	for _, p := range s.inFlight {
		between[p.at] = append(between[p.at], p.held)
	}
	var possible []line
	for at := range uint64(len(s.view)) {
		possible = append(possible[:0], s.image[at])
		possible = append(possible, between[at]...)
		if held, ok := s.evicted[at]; ok {
			possible = append(possible, held)
		}
		possible = append(possible, s.look(at))
		left := possible[0]
		if len(possible) > 2 || left != possible[1] {
			left = choose(at, possible)
		}
		c.view[at], c.image[at] = left, left
	}
	return c
}

// ProcessCrash is the memory that the process finds when it is started again after its death, without a loss of power:
// every store that was made (caches and shared pages outlive a process). What was not durable is still not; flushes
// without a Fence are forgotten. In the domain None it is zeros.
func (s *Simulated) ProcessCrash() *Simulated {
	if s.domain == None {
		return s.CrashDurable()
	}
	c := s.Clone()
	c.inFlight = nil
	return c
}

// EndProcess is [Simulated.ProcessCrash] in place. The domain is not None.
func (s *Simulated) EndProcess() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight = s.inFlight[:0]
}

// LosePower is [Simulated.CrashDurable] in place.
func (s *Simulated) LosePower() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.domain == None {
		clear(s.image)
	}
	copy(s.view, s.image)
	s.inFlight = s.inFlight[:0]
	clear(s.evicted)
}

// Clone is an independent memory in the same state, with the same evictions before it.
func (s *Simulated) Clone() *Simulated {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := newSimulated(uint64(len(s.mem)), s.domain)
	c.rng = s.rng
	for at := range uint64(len(s.view)) {
		c.view[at] = s.look(at)
	}
	copy(c.image, s.image)
	c.inFlight = slices.Clone(s.inFlight)
	c.evicted = maps.Clone(s.evicted)
	return c
}
