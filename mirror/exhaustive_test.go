package mirror_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/mirror"
	"whale/mirror/mirrortest"
	"whale/pmem"
)

// A small transaction: epochs of the words that they write, by their places. Two places of one line are 8 apart.
type small [][]uint64

var smalls = []small{
	{{0}},
	{{0, 64}},
	{{0, 8}},
	{{0}, {64}},
	{{0}, {8}},
	{{0}, {0}},
	{{0, 64}, {128}},
	{{0}, {64, 72}},
	{{0}, {64}, {0}},
}

// larger is walked on a network that does not choose when to complete: the orders would be too many.
var larger = []small{
	{{0}, {64}, {128}, {8}},
	{{0, 64}, {0, 128}},
}

var errPruned = errors.New("that is not possible now")

// walk runs a transaction once for each order in which the network may land and complete its operations. At every point it judges every
// memory that a loss of power could leave, on both sides. It returns how many runs and memories there were.
func walk(t *testing.T, tx small, s mirror.Strategy, net simfab.Options, edit func(fabric.Op) []fabric.Op) (runs, memories int, wrong error) {
	path := []int{} // which of the possible things happens, at each step
	for {
		depth, wide, pruned := 0, []int{}, false
		o := mirrortest.Options{Net: net, Size: 256, Seed: 1}
		if edit != nil {
			dialed := 0
			o.Spoil = func(c fabric.Conn) fabric.Conn {
				if dialed++; dialed == 1 {
					return c
				}
				return mirrortest.Edit(edit)(c)
			}
		}
		w := mirrortest.New(t, o)
		r := w.Open(mirror.Options{Strategy: s, Batch: 1})
		w.Settle()
		w.Next = func() error {
			events := w.Net.Pending()
			options := len(events)
			if net.Late {
				options *= 2 // it lands, or it completes before that
			}
			if options == 0 {
				return mirrortest.ErrStuck
			}
			if depth == len(path) {
				path = append(path, 0)
			}
			choice := path[depth]
			depth++
			wide = append(wide, options)
			var err error
			if choice < len(events) {
				err = w.Net.Deliver(events[choice])
			} else {
				err = w.Net.Complete(events[choice-len(events)])
			}
			if err != nil {
				pruned = true
				return errPruned
			}
			return nil
		}
		h := mirrortest.NewHistory(1)
		w.Point = func() {
			if wrong != nil || pruned {
				return
			}
			for side, m := range map[string]*pmem.Simulated{"here": w.Here, "there": w.There[0]} {
				if !m.CrashEach(1<<12, func(left *pmem.Simulated) {
					memories++
					if err := h.Check(func(off uint64) uint64 { return left.Load64(mirror.HeadSize + off) }); err != nil && wrong == nil {
						wrong = fmt.Errorf("%s, order %v: %w", side, path[:depth], err)
					}
				}) {
					t.Fatal("too many memories are possible")
				}
			}
		}
		mtx, err := r.Begin()
		if err != nil {
			t.Fatal(err)
		}
		h.Begin(mtx)
		for i, epoch := range tx {
			if i > 0 {
				h.Barrier()
			}
			for _, off := range epoch {
				h.Write(off, 1, off == 8)
			}
		}
		if err := h.Commit(); err != nil && !pruned {
			t.Fatal(err)
		}
		w.Point()
		if runs++; wrong != nil {
			return runs, memories, wrong
		}
		path = path[:depth]
		for len(path) > 0 && path[len(path)-1]+1 == wide[len(path)-1] {
			path = path[:len(path)-1]
		}
		if len(path) == 0 {
			return runs, memories, nil
		}
		path[len(path)-1]++
	}
}

// TestEveryLossOfPower: small transactions, exhaustively.
func TestEveryLossOfPower(t *testing.T) {
	for _, s := range mirrored {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			runs, memories := 0, 0
			for i, tx := range append(slices.Clone(smalls), larger...) {
				for _, net := range []simfab.Options{{Relaxed: true}, {Relaxed: true, Late: true}} {
					if net.Late && i >= len(smalls) {
						continue
					}
					n, m, wrong := walk(t, tx, s, net, nil)
					runs, memories = runs+n, memories+m
					if wrong != nil {
						t.Fatalf("%v: %v", tx, wrong)
					}
				}
			}
			t.Logf("%d orders of events, %d memories", runs, memories)
		})
	}
}

// TestEveryBrokenVariantIsFound: the exhaustive walk finds what the random one finds, where one small transaction shows it.
func TestEveryBrokenVariantIsFound(t *testing.T) {
	for _, v := range variants {
		if v.edit == nil || v.spoil != nil {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			for _, tx := range smalls {
				if _, _, wrong := walk(t, tx, v.strategy, simfab.Options{Relaxed: true}, v.edit); wrong != nil {
					t.Logf("found with %v: %v", tx, wrong)
					return
				}
			}
			t.Error("not found")
		})
	}
}
