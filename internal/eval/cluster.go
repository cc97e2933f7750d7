//go:build linux

package eval

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// whaleTrio is a fresh cluster of three nodes, with its data in a folder of its own.
type whaleTrio struct {
	proc    *process
	dir     string
	tls     *TLS
	ids     []Identity
	primary string
	backup  string
}

// startWhale starts one by the command argv ("whale dev") and waits until it serves.
func startWhale(ctx context.Context, argv []string, parent string, arena uint64, t *TLS) (*whaleTrio, error) {
	base, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	w := &whaleTrio{tls: t, dir: filepath.Join(parent, fmt.Sprintf("whale-%d", base))}
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		return nil, err
	}
	args := append(append([]string{}, argv...), "--nodes", "3", "--port", strconv.Itoa(base), "--dir", w.dir, "--arena", strconv.FormatUint(arena, 10))
	if w.proc, err = startProcess(parent, filepath.Base(w.dir), args...); err != nil {
		return nil, err
	}
	err = await(ctx, 60*time.Second, func() error {
		if err := w.proc.ended(); err != nil {
			return err
		}
		return w.identify(base)
	})
	if err == nil {
		err = w.rest(ctx)
	}
	if err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

// rest waits until the nodes do nothing any more: after their start they touch their memory ahead of use.
func (w *whaleTrio) rest(ctx context.Context) error {
	const look, quiet = 200 * time.Millisecond, 20 * time.Millisecond
	last := time.Duration(-1)
	var at time.Time
	return await(ctx, 2*time.Minute, func() error {
		if time.Since(at) < look {
			return errors.New("the nodes are busy after their start")
		}
		used := time.Duration(0)
		for _, id := range w.ids {
			t, err := cpuTime(id.PID)
			if err != nil {
				return err
			}
			used += t
		}
		spent := used - last
		at, last = time.Now(), used
		if spent > quiet {
			return fmt.Errorf("the nodes are busy after their start: %v of CPU time in the last %v", spent, look)
		}
		return nil
	})
}

// cpuTime is what a process has used, from /proc.
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	var user, system int64
	// The name, in parentheses, may hold anything; utime and stime are the 12th and 13th fields behind it.
	_, rest, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	for i, v := range map[int]*int64{11: &user, 12: &system} {
		if *v, err = strconv.ParseInt(fields[i], 10, 64); err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	return time.Duration(user+system) * tick, nil
}

func (w *whaleTrio) identify(base int) error {
	w.ids, w.primary, w.backup = nil, "", ""
	for port := base; port < base+3; port++ {
		id, err := Identify(fmt.Sprintf("127.0.0.1:%d", port), w.tls)
		if err != nil {
			return err
		}
		w.ids = append(w.ids, id)
		if id.Primary() {
			w.primary = id.Addr
		} else {
			w.backup = id.Addr
		}
	}
	if w.primary == "" || w.backup == "" {
		return errors.New("the cluster has no primary yet")
	}
	return settle(w.primary, w.tls, 1)
}

func (w *whaleTrio) stop() {
	w.proc.stop()
	os.RemoveAll(w.dir)
}

// RecordBytes is how much of a Whale arena one SET of a key of KeySize bytes takes: a header, key and value, rounded up.
func RecordBytes(value int) uint64 { return uint64(64+KeySize+value+7) &^ 7 }

// usable is how much of an arena records can take: what DEL is kept back for is left out, and what is lost at the ends
// of segments because the next record does not fit.
func usable(arena uint64, value int) uint64 {
	const segment = 8 << 20
	reserve := max(arena*3/100, segment) + segment
	segments := arena / segment
	lost := segments * (64 + RecordBytes(value))
	if arena <= reserve+lost {
		return 0
	}
	return arena - reserve - lost
}

// budget is how many SETs each of a number of cells may make on a fresh cluster whose key space is filled first, so that
// the arena holds them all.
func budget(arena uint64, value, keys, cells int) (uint64, error) {
	const least = 10_000 // fewer say little
	record := RecordBytes(value)
	// The rounding to whole batches, and the SET with which each run settles, are in the slack.
	const slack = 2000
	need := uint64(keys)*record + uint64(cells)*(least+slack)*record
	room := usable(arena, value)
	if room < need {
		return 0, fmt.Errorf("an arena of %s holds %s of records; %d keys of %s and %d SETs in each of %d cells need %s: raise --arena or lower --keys",
			bytesText(arena), bytesText(room), keys, bytesText(uint64(value)), least, cells, bytesText(need))
	}
	if cells == 0 {
		return 0, nil
	}
	return (room-uint64(keys)*record)/uint64(cells)/record - slack, nil
}
