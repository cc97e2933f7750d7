package cluster

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func first() Record { return Record{Epoch: 1, Members: []int{0, 1, 2}} }

func TestASwapNeedsTheRevision(t *testing.T) {
	ctx, m := context.Background(), &Memory{}
	if v, err := m.Read(ctx); err != nil || v.Revision != 0 {
		t.Fatalf("%+v %v: want no record", v, err)
	}
	a, swapped, err := m.Swap(ctx, 0, first())
	if err != nil || !swapped || a.Epoch != 1 {
		t.Fatalf("%+v %v %v", a, swapped, err)
	}
	other := first()
	other.Epoch = 9
	if b, swapped, err := m.Swap(ctx, 0, other); err != nil || swapped || b.Revision != a.Revision || b.Epoch != 1 {
		t.Fatalf("%+v %v %v: a swap of a revision that is gone", b, swapped, err)
	}
	if b, swapped, _ := m.Swap(ctx, a.Revision, other); !swapped || b.Revision <= a.Revision || b.Epoch != 9 {
		t.Fatalf("%+v %v", b, swapped)
	}
}

func TestOfManySwapsOneWins(t *testing.T) {
	ctx, m := context.Background(), &Memory{}
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, swapped, _ := m.Swap(ctx, 0, first()); swapped {
				won.Add(1)
			}
		})
	}
	if wg.Wait(); won.Load() != 1 {
		t.Fatalf("%d swaps of one revision", won.Load())
	}
}

func TestARecordIsItsReadersOwn(t *testing.T) {
	ctx, m := context.Background(), &Memory{}
	mine := first()
	v, _, _ := m.Swap(ctx, 0, mine)
	mine.Members[1], v.Members[2] = 7, 8
	if now, _ := m.Read(ctx); now.Members[1] != 1 || now.Members[2] != 2 {
		t.Fatalf("the record has become %v", now.Members)
	}
}

func TestWatchersAreTold(t *testing.T) {
	ctx, m := context.Background(), &Memory{}
	var told []int64
	stop := m.Watch(func(v Versioned) { told = append(told, v.Revision) })
	m.Swap(ctx, 0, first())
	m.Swap(ctx, 0, first()) // refused: nothing changes
	m.Swap(ctx, 1, first())
	stop()
	m.Swap(ctx, 2, first())
	if len(told) != 2 || told[0] != 1 || told[1] != 2 {
		t.Fatalf("told of revisions %v, want 1 and 2", told)
	}
}

func TestCarry(t *testing.T) {
	m := &Memory{}
	p := Proposal{ID: 5, Swap: true, Next: first()}
	if o := p.Carry(context.Background(), m); o.ID != 5 || !o.Swapped || o.Err != nil || o.Now.Epoch != 1 {
		t.Fatalf("%+v", o)
	}
	p = Proposal{ID: 6}
	if o := p.Carry(context.Background(), m); o.ID != 6 || o.Swapped || o.Now.Epoch != 1 {
		t.Fatalf("%+v", o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, p := range []Proposal{{ID: 7}, {ID: 8, Swap: true, Revision: 1, Next: first()}} {
		if o := p.Carry(ctx, m); !errors.Is(o.Err, ErrUnknown) || !errors.Is(o.Err, context.Canceled) {
			t.Fatalf("%v: want that the outcome is unknown", o.Err)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		r     Record
		wrong string
	}{
		{first(), ""},
		{Record{Epoch: 3, Activated: 3, Members: []int{0}, InSync: []Replica{{0, 9}}}, ""},
		{Record{}, "epoch 0"},
		{Record{Epoch: 2, Activated: 3, Members: []int{0}}, "last active epoch is 3"},
		{Record{Epoch: 2}, "without members"},
		{Record{Epoch: 2, Members: []int{0, 3}}, "members [0 3]: they are numbers from 0 to 2"},
		{Record{Epoch: 2, Members: []int{0, 1, 1}}, "members [0 1 1]"},
		{Record{Epoch: 2, Members: []int{0, -1}}, "members [0 -1]"},
		{Record{Epoch: 2, Members: []int{0}, InSync: []Replica{{3, 1}}}, "in-sync set has a member 3"},
	} {
		err := c.r.Validate(3)
		if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%+v: %v, want %q", c.r, err, c.wrong)
		}
	}
}
