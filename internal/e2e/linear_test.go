//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// value is the text of the numbered value: its number, then a pattern that follows from it, so that a value put together
// from two does not pass.
func value(n, size int) string {
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	block := make([]byte, 61)
	for i := range block {
		block[i] = 'a' + byte(rng.Uint32()%26)
	}
	return (fmt.Sprintf("%d:", n) + strings.Repeat(string(block), size/len(block)+1))[:size]
}

// numberOf is the number of a value; an error if it is not that value whole.
func numberOf(text string, size int) (int, error) {
	head, _, _ := strings.Cut(text[:min(len(text), 20)], ":")
	n, err := strconv.Atoi(head)
	if err != nil || value(n, size) != text {
		return 0, fmt.Errorf("a torn value of %d bytes: %.60q", len(text), text)
	}
	return n, nil
}

// keySize of the numbered keys: every other one has large values, which travel another way than small ones.
func keySize(key int) int {
	if key%2 == 1 {
		return 64 << 10
	}
	return 64
}

// historian lets clients at all nodes work on few keys and writes down what they saw.
type historian struct {
	c      *cluster
	start  time.Time
	prefix string
	keys   int
	next   atomic.Int64 // numbers of values
	done   atomic.Int64 // operations
	mu     sync.Mutex
	ops    []porcupine.Operation
	torn   []error
}

// client does n operations at one node. After an unknown outcome it goes on as a new client, for the old one is still
// waiting.
func (h *historian) client(node, id, n int) {
	rng := rand.New(rand.NewPCG(uint64(node), uint64(id)))
	var c *conn
	defer func() {
		if c != nil {
			c.close()
		}
	}()
	for range n {
		in := input{key: rng.IntN(h.keys)}
		switch r := rng.IntN(20); {
		case r < 10:
			in.kind = opGet
		case r < 17:
			in.kind = opSet
		case r < 19:
			in.kind = opSwap
		default:
			in.kind = opDel
		}
		if in.kind == opSet || in.kind == opSwap {
			in.value = int(h.next.Add(1))
		}
		args := h.request(in)
		if c == nil {
			var err error
			if c, err = dial(h.c.addrs[node]); err != nil {
				time.Sleep(10 * time.Millisecond) // the node is being restarted: nothing was sent, nothing to note
				continue
			}
		}
		call := time.Since(h.start).Nanoseconds()
		text, asked := c.text(args...)
		ret := time.Since(h.start).Nanoseconds()
		out, err := h.output(in, text, asked)
		if err != nil {
			h.mu.Lock()
			h.torn = append(h.torn, err)
			h.mu.Unlock()
		}
		if out.unknown {
			c.close()
			c = nil
			ret = infinity
		}
		if out.unknown && strings.Contains(fmt.Sprint(asked), "not executed") {
			// Taken at its word: if it was executed after all, somebody reads a value that nobody wrote.
			time.Sleep(time.Millisecond)
			continue
		}
		if !out.unknown || in.kind != opGet {
			h.mu.Lock()
			h.ops = append(h.ops, porcupine.Operation{ClientId: id, Input: in, Call: call, Output: out, Return: ret})
			h.mu.Unlock()
		}
		if out.unknown {
			id += 1000
		}
		h.done.Add(1)
	}
}

func (h *historian) request(in input) []string {
	key := h.prefix + strconv.Itoa(in.key)
	switch in.kind {
	case opGet:
		return []string{"GET", key}
	case opSet:
		return []string{"SET", key, value(in.value, keySize(in.key))}
	case opSwap:
		return []string{"SET", key, value(in.value, keySize(in.key)), "GET"}
	}
	return []string{"DEL", key}
}

func (h *historian) output(in input, text string, err error) (output, error) {
	switch {
	case errors.Is(err, errNil):
		return output{}, nil
	case err != nil: // a refusal may be certain; taking it for unknown only forgives more
		return output{unknown: true}, nil
	case in.kind == opSet:
		return output{}, nil
	case in.kind == opDel:
		n, err := strconv.Atoi(text)
		return output{value: n}, err
	}
	n, err := numberOf(text, keySize(in.key))
	return output{value: n}, err
}

// run lets clients work and fault do its worst meanwhile, and judges.
func (h *historian) run(t *testing.T, clients, n int, fault func(progress func(part float64))) {
	t.Helper()
	h.start = time.Now()
	var wg sync.WaitGroup
	for id := range clients {
		wg.Go(func() { h.client(id%len(h.c.addrs), id, n) })
	}
	total := float64(clients * n)
	if fault != nil {
		// progress waits until that part of all operations is done, or for as long as a stopped node may stay stopped.
		fault(func(part float64) {
			for end := time.Now().Add(500 * time.Millisecond); float64(h.done.Load()) < part*total && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
		})
	}
	wg.Wait()
	for _, err := range h.torn {
		t.Error(err)
	}
	unknown, reads := 0, 0
	for _, op := range h.ops {
		if op.Output.(output).unknown {
			unknown++
		}
		if op.Input.(input).kind == opGet {
			reads++
		}
	}
	t.Logf("%d operations (%d reads, %d of unknown outcome) in %v", len(h.ops), reads, unknown, time.Since(h.start).Round(time.Millisecond))
	if len(h.ops) < int(total)/2 {
		t.Errorf("only %d of %.0f operations came to anything", len(h.ops), total)
	}
	if !linearizable(t, h.ops) {
		t.Error("the history is not linearizable")
		_, info := porcupine.CheckOperationsVerbose(register, h.ops, time.Minute)
		if path := os.Getenv("WHALE_E2E_HISTORY"); path != "" {
			porcupine.VisualizePath(register, info, path)
			t.Logf("picture: %s", path)
		} else {
			t.Log("WHALE_E2E_HISTORY=FILE.html draws a picture")
		}
	}
}

// Clients at all nodes, few keys, small and large values; one burst of faults a history.
func TestLinearizable(t *testing.T) {
	c := newCluster(t, "--arena", arenaSize("1GiB", "4GiB"))
	n := size(700, 4)
	// A fault is one node that is stopped and continued again and again, or killed in the middle.
	disturb := func(node int, kill bool) func(progress func(float64)) {
		if external != nil || testing.Short() {
			return nil
		}
		return func(progress func(float64)) {
			pid := c.pid(node)
			if kill {
				progress(0.4)
				signal(t, pid, syscall.SIGKILL)
				return
			}
			for i := range 8 {
				progress(float64(i) / 8)
				signal(t, pid, syscall.SIGSTOP)
				progress((float64(i) + 0.5) / 8)
				signal(t, pid, syscall.SIGCONT)
			}
		}
	}
	p, b := c.primary(), c.backups()
	histories := []struct {
		name  string
		fault func(progress func(float64))
	}{
		{"undisturbed", nil},
		{"a backup is stopped again and again", disturb(b[0], false)},
		{"the other backup is stopped", disturb(b[1], false)},
		{"the primary is stopped", disturb(p, false)},
		{"a backup is killed", disturb(b[0], true)},
		{"the primary is killed", disturb(p, true)},
	}
	for i, history := range histories {
		t.Run(history.name, func(t *testing.T) {
			h := &historian{c: c, keys: 4, prefix: fmt.Sprintf("linear:%d:", i)}
			h.run(t, 12, n, history.fault)
			c.awaitReady()
		})
	}
}
