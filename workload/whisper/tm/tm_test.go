package tm_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"whale/mirror"
	"whale/mirror/ptx"
	"whale/pmem"
	"whale/timing"
	"whale/workload"
	"whale/workload/whisper/tm"
)

const (
	accounts = 8
	threads  = 4
	start    = 1000
)

func memory(t testing.TB, m pmem.Memory, o mirror.Options, log ptx.Log) *tm.Memory {
	t.Helper()
	r, err := mirror.Open(context.Background(), m, nil, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := ptx.Open(r, ptx.Options{Log: log, Root: 64 * accounts})
	if err != nil {
		t.Fatal(err)
	}
	return tm.New(pool)
}

func account(m *tm.Memory, i int) uint64 { return m.Pool().Root() + 64*uint64(i) }

// transfer moves money between accounts drawn at random, and sees that there is always as much of it.
func transfer(m *tm.Memory, t *workload.Thread, runs int) error {
	for range runs {
		from, to := t.Rand.IntN(accounts), t.Rand.IntN(accounts)
		err := m.Run(t, func(tx *tm.Tx) error {
			sum := uint64(0)
			for i := range accounts {
				sum += tx.Load64(account(m, i))
			}
			if sum != accounts*start {
				return errors.New("a transaction sees another one's half")
			}
			tx.Store64(account(m, from), tx.Load64(account(m, from))-1)
			tx.Store64(account(m, to), tx.Load64(account(m, to))+1)
			if t.Rand.IntN(8) == 0 {
				return errChanged
			}
			return nil
		})
		if err != nil && err != errChanged {
			return err
		}
	}
	return nil
}

var errChanged = errors.New("it has changed its mind")

func fill(t testing.TB, m *tm.Memory) {
	err := m.Run(workload.NewThread(0, 1, workload.Real{}), func(tx *tm.Tx) error {
		for i := range accounts {
			tx.Store64(account(m, i), start)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func total(m *tm.Memory) (sum uint64) {
	m.Look(func(tx *tm.Tx) error {
		for i := range accounts {
			sum += tx.Load64(account(m, i))
		}
		return nil
	})
	return sum
}

// TestIsolation: threads of the real machine never see each other's halves, with either kind of log.
func TestIsolation(t *testing.T) {
	for _, log := range []ptx.Log{ptx.Undo, ptx.Redo} {
		t.Run(log.String(), func(t *testing.T) {
			m := memory(t, pmem.HeapOf(1<<20, pmem.ADR), mirror.Options{Threads: threads}, log)
			fill(t, m)
			var all sync.WaitGroup
			for i := range threads {
				all.Go(func() {
					if err := transfer(m, workload.NewThread(i, 7, workload.Real{}), 300); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if sum := total(m); sum != accounts*start {
				t.Errorf("%d in all accounts, want %d", sum, accounts*start)
			}
		})
	}
}

// TestOnModel: threads of modelled hardware get on, too, with conflicts, and equal runs are equal.
func TestOnModel(t *testing.T) {
	run := func() (took int64, state string) {
		model, err := timing.New(timing.Default(), 1)
		if err != nil {
			t.Fatal(err)
		}
		heap := pmem.HeapOf(1<<20, pmem.ADR)
		m := memory(t, model.Node("primary").Memory(heap), mirror.Options{Threads: threads, Idle: model.Idle}, ptx.Redo)
		fill(t, m)
		functions := make([]func(), threads)
		for i := range functions {
			functions[i] = func() {
				if err := transfer(m, workload.NewThread(i, 7, model), 100); err != nil {
					t.Error(err)
				}
			}
		}
		model.Run(functions...)
		if sum := total(m); sum != accounts*start {
			t.Errorf("%d in all accounts, want %d", sum, accounts*start)
		}
		return int64(model.Now()), string(heap.Bytes()[mirror.HeadSize:])
	}
	took, state := run()
	if again, same := run(); again != took || same != state {
		t.Errorf("equal runs took %d and %d, equal states: %v", took, again, state == same)
	}
}

// TestErrorLeavesNothing: what f returns an error from is not done, and its blocks are free again.
func TestErrorLeavesNothing(t *testing.T) {
	for _, log := range []ptx.Log{ptx.Undo, ptx.Redo} {
		m := memory(t, pmem.HeapOf(1<<20, pmem.ADR), mirror.Options{}, log)
		fill(t, m)
		thread := workload.NewThread(0, 1, workload.Real{})
		var block uint64
		err := m.Run(thread, func(tx *tm.Tx) (err error) {
			if block, err = tx.Alloc(64); err != nil {
				return err
			}
			tx.Write(block, make([]byte, 64))
			tx.Store64(account(m, 0), block)
			if tx.Load64(account(m, 0)) != block {
				t.Error("a transaction does not see what it wrote")
			}
			return errChanged
		})
		if err != errChanged || total(m) != accounts*start {
			t.Errorf("%v; %d in all accounts", err, total(m))
		}
		err = m.Run(thread, func(tx *tm.Tx) error {
			if _, err := tx.Size(block); !errors.Is(err, ptx.ErrBadFree) {
				t.Errorf("the block is still there: %v", err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}
