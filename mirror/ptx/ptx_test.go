package ptx_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"whale/mirror"
	"whale/mirror/mirrortest"
	"whale/mirror/ptx"
	"whale/pmem"
)

var logs = []ptx.Log{ptx.Undo, ptx.Redo, ptx.Counted}

// size is that of a region with a few chunks.
const size = 96 << 10

// reopen opens what a crash left of one side, alone.
func reopen(t testing.TB, m pmem.Memory, o ptx.Options) *ptx.Pool {
	t.Helper()
	p, err := ptx.Open(mirrortest.Alone(t, m, 2), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func begin(t testing.TB, p *ptx.Pool) *ptx.Tx {
	t.Helper()
	tx, err := p.Begin()
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// TestAgainstModel: whatever transactions do and however they end, the pool is what a map of byte slices is.
func TestAgainstModel(t *testing.T) {
	for _, log := range logs {
		t.Run(log.String(), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				m := pmem.Simulate(mirror.HeadSize+size, pmem.ADR, 1)
				pool := reopen(t, m, ptx.Options{Log: log, Lanes: 2, LogSize: 2048, Root: 64})
				root := make([]byte, 64)
				blocks := map[uint64][]byte{}
				for range rapid.IntRange(1, 12).Draw(rt, "transactions") {
					if rapid.IntRange(0, 9).Draw(rt, "restart") == 0 {
						m = m.ProcessCrash()
						pool = reopen(t, m, ptx.Options{})
					}
					tx := begin(t, pool)
					newRoot, newBlocks := bytes.Clone(root), map[uint64][]byte{}
					for at, b := range blocks {
						newBlocks[at] = bytes.Clone(b)
					}
					full := runSteps(rt, pool, tx, newRoot, newBlocks)
					abort := rapid.IntRange(0, 3).Draw(rt, "abort") == 0
					var err error
					if abort {
						err = tx.Abort()
					} else {
						err = tx.Commit()
					}
					switch {
					case !abort && full:
						if !errors.Is(err, ptx.ErrLogFull) {
							rt.Fatalf("a transaction with a full log ended with %v", err)
						}
					case err != nil:
						rt.Fatalf("abort %v: %v", abort, err)
					case !abort:
						root, blocks = newRoot, newBlocks
					}
					check(rt, t, pool, root, blocks)
				}
			})
		})
	}
}

// runSteps does random things and keeps the model up. full: the log was.
func runSteps(rt *rapid.T, pool *ptx.Pool, tx *ptx.Tx, root []byte, blocks map[uint64][]byte) (full bool) {
	for range rapid.IntRange(0, 10).Draw(rt, "steps") {
		at, mem := pool.Root(), root
		if len(blocks) > 0 && rapid.Bool().Draw(rt, "block") {
			at = pick(rt, blocks)
			mem = blocks[at]
		}
		switch rapid.IntRange(0, 4).Draw(rt, "step") {
		case 0, 1:
			off := rapid.IntRange(0, len(mem)-1).Draw(rt, "off")
			b := rapid.SliceOfN(rapid.Byte(), 1, len(mem)-off).Draw(rt, "bytes")
			tx.Write(at+uint64(off), b)
			copy(mem[off:], b)
		case 2:
			off := rapid.IntRange(0, len(mem)/8-1).Draw(rt, "word") * 8
			tx.Store64(at+uint64(off), uint64(off)*0x0101010101)
			var word [8]byte
			for i := range word {
				word[i] = byte(uint64(off) * 0x0101010101 >> (8 * i))
			}
			copy(mem[off:], word[:])
		case 3:
			n := rapid.SampledFrom([]int{1, 16, 60, 64, 100, 600, 5000, 9000}).Draw(rt, "size")
			p, err := tx.Alloc(uint64(n))
			if errors.Is(err, ptx.ErrNoSpace) {
				continue
			}
			if errors.Is(err, ptx.ErrLogFull) {
				return true
			}
			if err != nil {
				rt.Fatal(err)
			}
			for q, b := range blocks {
				if p < q+uint64(len(b)) && q < p+uint64(n) {
					rt.Fatalf("a block of %d bytes at %d overlaps one of %d at %d", n, p, len(b), q)
				}
			}
			b := bytes.Repeat([]byte{byte(n)}, max(n, 8))
			tx.Write(p, b[:n])
			blocks[p] = b[:max(n, 8)]
			if n < 8 {
				tx.Write(p, b)
			}
		case 4:
			if at == pool.Root() {
				if err := tx.Free(at); !errors.Is(err, ptx.ErrBadFree) && !errors.Is(err, ptx.ErrLogFull) {
					rt.Fatalf("freeing the root: %v", err)
				}
				continue
			}
			err := tx.Free(at)
			if errors.Is(err, ptx.ErrLogFull) {
				return true
			}
			if err != nil {
				rt.Fatal(err)
			}
			if err := tx.Free(at); !errors.Is(err, ptx.ErrBadFree) {
				rt.Fatalf("freeing twice: %v", err)
			}
			delete(blocks, at)
			continue
		}
		if _, err := tx.Alloc(1 << 40); errors.Is(err, ptx.ErrLogFull) {
			return true
		}
		got := make([]byte, len(mem))
		if tx.Read(at, got); mem != nil && blocks[at] != nil && !bytes.Equal(got, mem) {
			rt.Fatalf("the transaction does not see what it wrote at %d: %s", at, diff(got, mem))
		}
	}
	return false
}

func pick(rt *rapid.T, blocks map[uint64][]byte) uint64 {
	var places []uint64
	for p := range blocks {
		places = append(places, p)
	}
	slices.Sort(places)
	return rapid.SampledFrom(places).Draw(rt, "place")
}

// check compares the pool with the model, the allocations included.
func check(rt *rapid.T, t testing.TB, pool *ptx.Pool, root []byte, blocks map[uint64][]byte) {
	tx := begin(t, pool)
	defer tx.Abort()
	got := make([]byte, len(root))
	if tx.Read(pool.Root(), got); !bytes.Equal(got, root) {
		rt.Fatalf("the root: %s", diff(got, root))
	}
	count := 0
	for p := range pool.Blocks() {
		if count++; blocks[p] == nil {
			rt.Fatalf("the block at %d is allocated, and nobody has it", p)
		}
	}
	if count != len(blocks) {
		rt.Fatalf("%d blocks are allocated, want %d", count, len(blocks))
	}
	for p, want := range blocks {
		got := make([]byte, len(want))
		if tx.Read(p, got); !bytes.Equal(got, want) {
			rt.Fatalf("the block at %d: %s", p, diff(got, want))
		}
		if n, err := tx.Size(p); err != nil || n < uint64(len(want)) && len(want) > 8 {
			rt.Fatalf("the block at %d of %d bytes has size %d, %v", p, len(want), n, err)
		}
	}
}

func diff(got, want []byte) string {
	for i := range want {
		if got[i] != want[i] {
			return fmt.Sprintf("byte %d of %d is %#x, want %#x", i, len(want), got[i], want[i])
		}
	}
	return "equal"
}
