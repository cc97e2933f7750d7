package pmem

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// The smallest protocol for persistent memory: two words of data, then a word that says that they count. The crash
// model has to pass it and to catch every way to get it wrong.

const (
	first, second = 56, 64 // the data: two lines
	commit        = 128    // a line of its own
)

// writer makes version k durable and calls crash wherever the power may fail.
type writer func(m Memory, k uint64, crash func())

func durable(m Memory, off, n uint64) {
	m.Persist(off, n)
	m.Fence()
}

func store(m Memory, off, v uint64, crash func()) {
	m.Store64(off, v)
	crash()
}

// The data lie over the older version's: a reader that finds commit = k may find data of k+1, but never of k-1.
var flushed = map[string]writer{
	"correct": func(m Memory, k uint64, crash func()) {
		store(m, first, k, crash)
		store(m, second, k, crash)
		durable(m, first, 16)
		store(m, commit, k, crash)
		durable(m, commit, 8)
	},
	"correct, CopyNT": func(m Memory, k uint64, crash func()) {
		m.CopyNT(first, []byte{byte(k), 0, 0, 0, 0, 0, 0, 0, byte(k)})
		crash()
		m.Fence()
		store(m, commit, k, crash)
		durable(m, commit, 8)
	},
	"broken: no fence before the commit": func(m Memory, k uint64, crash func()) {
		store(m, first, k, crash)
		store(m, second, k, crash)
		m.Persist(first, 16)
		store(m, commit, k, crash)
		durable(m, commit, 8)
	},
	"broken: fence before persist": func(m Memory, k uint64, crash func()) {
		store(m, first, k, crash)
		store(m, second, k, crash)
		m.Fence()
		m.Persist(first, 16)
		store(m, commit, k, crash)
		durable(m, commit, 8)
	},
	"broken: second line not persisted": func(m Memory, k uint64, crash func()) {
		store(m, first, k, crash)
		store(m, second, k, crash)
		durable(m, first, 8)
		store(m, commit, k, crash)
		durable(m, commit, 8)
	},
	"broken: stored between persist and fence": func(m Memory, k uint64, crash func()) {
		store(m, first, k, crash)
		m.Persist(first, 16)
		store(m, second, k, crash)
		m.Fence()
		store(m, commit, k, crash)
		durable(m, commit, 8)
	},
	"broken: commit not fenced": func(m Memory, k uint64, crash func()) {
		store(m, first, k, crash)
		store(m, second, k, crash)
		durable(m, first, 16)
		store(m, commit, k, crash)
		m.Persist(commit, 8)
	},
	"broken: no flush at all": func(m Memory, k uint64, crash func()) {
		store(m, first, k, crash)
		store(m, second, k, crash)
		store(m, commit, k, crash)
	},
}

var fencedOnly = map[string]writer{
	"correct": func(m Memory, k uint64, crash func()) {
		store(m, first, k, crash)
		store(m, second, k, crash)
		m.Fence()
		store(m, commit, k, crash)
		m.Fence()
	},
	"broken: no fence before the commit": func(m Memory, k uint64, crash func()) {
		store(m, first, k, crash)
		store(m, second, k, crash)
		store(m, commit, k, crash)
		m.Fence()
	},
	"broken: commit not fenced": func(m Memory, k uint64, crash func()) {
		store(m, first, k, crash)
		store(m, second, k, crash)
		m.Fence()
		store(m, commit, k, crash)
	},
}

var synced = map[string]writer{
	"correct": func(m Memory, k uint64, crash func()) {
		store(m, first, k, crash)
		store(m, second, k, crash)
		m.Sync(first, 16)
		store(m, commit, k, crash)
		m.Sync(commit, 8)
	},
	"broken: flushes do not reach the disk": flushed["correct"],
	"broken: one sync for both": func(m Memory, k uint64, crash func()) {
		store(m, first, k, crash)
		store(m, second, k, crash)
		store(m, commit, k, crash)
		m.Sync(first, 80)
	},
}

// recovered checks a memory that a crash left, when version acked had been reported durable.
func recovered(m Memory, acked uint64) error {
	k := m.Load64(commit)
	if k < acked {
		return fmt.Errorf("version %d was durable, found %d", acked, k)
	}
	for _, off := range []uint64{first, second} {
		if v := m.Load64(off); v != k && v != k+1 {
			return fmt.Errorf("version %d counts, and the word at %d is of %d", k, off, v)
		}
	}
	return nil
}

// violation is the first that crashes of w, at every step and over many seeds, bring up.
func violation(domain Domain, w writer, takeCrash func(*Simulated, *rand.Rand) *Simulated) error {
	for seed := range uint64(200) {
		m := Simulate(256, domain, seed)
		rng := rand.New(rand.NewPCG(seed, 1))
		var acked uint64
		var failed error
		crash := func() {
			if failed == nil {
				failed = recovered(takeCrash(m, rng), acked)
			}
		}
		for k := uint64(1); k <= 5; k++ {
			w(m, k, crash)
			acked = k
			crash()
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

func TestCommitProtocols(t *testing.T) {
	for domain, writers := range map[Domain]map[string]writer{ADR: flushed, EADR: fencedOnly, FileShared: synced, FileSynced: synced} {
		for name, w := range writers {
			t.Run(fmt.Sprintf("%v/%s", domain, name), func(t *testing.T) {
				err := violation(domain, w, (*Simulated).Crash)
				if broken := name[:6] == "broken"; broken && err == nil {
					t.Error("not caught")
				} else if !broken && err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// The death of the process alone harms none of them, the domain None apart.
func TestCommitProtocolsSurviveTheProcess(t *testing.T) {
	die := func(s *Simulated, _ *rand.Rand) *Simulated { return s.ProcessCrash() }
	for domain := FileShared; domain <= EADR; domain++ {
		for name, w := range flushed {
			if err := violation(domain, w, die); err != nil {
				t.Errorf("%v/%s: %v", domain, name, err)
			}
		}
	}
	if violation(None, flushed["correct"], die) == nil {
		t.Error("None survives the process")
	}
}
