package pmem

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Crash is a memory that a loss of power at this moment could leave, drawn with rng; the same domain, all of it durable,
// and evictions of its own drawn with rng too. Every memory that the model allows has a chance.
func (s *Simulated) Crash(rng *rand.Rand) *Simulated {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crash(rng, func(at uint64, possible []line) (left line) {
		// Words drawn one by one would hardly ever leave a line alone, or take it whole.
		switch rng.Uint64N(4) {
		case 0:
			return possible[0]
		case 1:
			return possible[rng.IntN(len(possible))]
		}
		for w := range left {
			left[w] = possible[rng.IntN(len(possible))][w]
		}
		return left
	})
}

// CrashDurable is the loss of power after which nothing is left but what was certain to be: no eviction happened and
// no snapshot arrived before its Fence.
func (s *Simulated) CrashDurable(rng *rand.Rand) *Simulated {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crash(rng, func(_ uint64, possible []line) line { return possible[0] })
}

// CrashAll is the loss of power before which everything became durable by chance.
func (s *Simulated) CrashAll(rng *rand.Rand) *Simulated {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.crash(rng, func(_ uint64, possible []line) line { return possible[len(possible)-1] })
}

// crash is a memory that choose has filled. Of the possible lines the first is the image's and the last the view's.
func (s *Simulated) crash(rng *rand.Rand, choose func(at uint64, possible []line) line) *Simulated {
	c := newSimulated(uint64(len(s.mem)), s.domain)
	c.rng.Seed(rng.Uint64(), 0)
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
		s.mu.Lock()
		defer s.mu.Unlock()
		c := newSimulated(uint64(len(s.mem)), s.domain)
		c.rng = s.rng
		return c
	}
	c := s.Clone()
	c.inFlight = nil
	return c
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
