//go:build linux

package e2e

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// kind of an operation in a history.
type kind uint8

const (
	opGet kind = iota
	opSet
	opSwap // SET with GET: stores, and returns what was there
	opDel
)

// input and output of an operation on one key. Values are known by the number that is part of each; 0 is no value.
type input struct {
	key   int
	kind  kind
	value int
}

type output struct {
	value   int  // opGet, opSwap: what was read; opDel: how many keys it removed
	unknown bool // the outcome was never heard of: it may have happened at any time, or never
}

// register is one key, as Redis means it.
var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[int][]porcupine.Operation{}
		for _, op := range history {
			k := op.Input.(input).key
			byKey[k] = append(byKey[k], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return 0 },
	Step: func(state, in, out any) (bool, any) {
		now, i, o := state.(int), in.(input), out.(output)
		switch i.kind {
		case opGet:
			return o.unknown || o.value == now, now
		case opSet:
			return true, i.value
		case opSwap:
			return o.unknown || o.value == now, i.value
		default:
			removed := 0
			if now != 0 {
				removed = 1
			}
			return o.unknown || o.value == removed, 0
		}
	},
	DescribeOperation: func(in, out any) string {
		i, o := in.(input), out.(output)
		name := [...]string{"GET", "SET", "SET GET", "DEL"}[i.kind]
		if o.unknown {
			return fmt.Sprintf("%s k%d %d: unknown", name, i.key, i.value)
		}
		return fmt.Sprintf("%s k%d %d: %d", name, i.key, i.value, o.value)
	},
}

// infinity is when an operation returns whose outcome is unknown.
const infinity = math.MaxInt64

// linearizable checks a history; a check that does not come to an end fails, too.
func linearizable(t testing.TB, history []porcupine.Operation) bool {
	t.Helper()
	switch porcupine.CheckOperationsTimeout(register, history, time.Minute) {
	case porcupine.Ok:
		return true
	case porcupine.Unknown:
		t.Fatalf("the history of %d operations could not be checked within a minute: too many unknown outcomes?", len(history))
	}
	return false
}

// The checker must catch what it is there for.
func TestCheckerCatchesStaleReads(t *testing.T) {
	op := func(call, ret int64, k kind, value int, out output) porcupine.Operation {
		return porcupine.Operation{ClientId: int(call), Input: input{1, k, value}, Call: call, Output: out, Return: ret}
	}
	read := func(call, ret int64, v int) porcupine.Operation { return op(call, ret, opGet, 0, output{value: v}) }
	cases := []struct {
		name    string
		history []porcupine.Operation
		want    bool
	}{
		{"read of the value just written", []porcupine.Operation{op(1, 2, opSet, 7, output{}), read(3, 4, 7)}, true},
		{"stale read after the acknowledgement", []porcupine.Operation{op(1, 2, opSet, 7, output{}), op(3, 4, opSet, 8, output{}), read(5, 6, 7)}, false},
		{"missing after the acknowledgement", []porcupine.Operation{op(1, 2, opSet, 7, output{}), read(3, 4, 0)}, false},
		{"old after new, the write still running", []porcupine.Operation{op(1, 20, opSet, 7, output{}), read(2, 3, 7), read(4, 5, 0)}, false},
		{"either, while the write runs", []porcupine.Operation{op(1, 20, opSet, 7, output{}), read(2, 3, 0), read(4, 5, 7)}, true},
		{"an unknown write that shows late", []porcupine.Operation{op(1, infinity, opSet, 7, output{unknown: true}), read(2, 3, 0), read(4, 5, 7)}, true},
		{"an unknown write that comes and goes", []porcupine.Operation{op(1, infinity, opSet, 7, output{unknown: true}), read(2, 3, 7), read(4, 5, 0)}, false},
		{"a swap that lost a write", []porcupine.Operation{op(1, 2, opSet, 7, output{}), op(3, 4, opSwap, 8, output{value: 0})}, false},
		{"a deletion that found nothing", []porcupine.Operation{op(1, 2, opSet, 7, output{}), op(3, 4, opDel, 0, output{value: 0})}, false},
		{"a value that came back after a deletion", []porcupine.Operation{op(1, 2, opSet, 7, output{}), op(3, 4, opDel, 0, output{value: 1}), read(5, 6, 7)}, false},
	}
	for _, c := range cases {
		if got := linearizable(t, c.history); got != c.want {
			t.Errorf("%s: linearizable = %v, want %v", c.name, got, c.want)
		}
	}
}
