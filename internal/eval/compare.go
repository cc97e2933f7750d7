//go:build linux

package eval

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// Compare measures a fresh Whale cluster and a Redis with two replicas side by side, in alternating runs.
type Compare struct {
	Whale       []string // the command that starts a cluster, without its other flags: PATH dev --fabric NAME
	Network     bool     // it connects the nodes by sockets, as Redis does: there are other targets then
	RedisServer string   // name or path
	// Secure: clients speak TLS to both, Redis's replicas to their primary, and over TCP Whale's nodes to each other, with
	// certificates made for it, below the folder of the data.
	Secure bool
	// Dir is the folder below which a temporary one is made for data and logs of all of them, and removed; empty: in
	// memory (/dev/shm) if there is room, for neither side is to be measured by its disk, else the system's default.
	Dir       string
	Arena     uint64 // bytes a node; one cluster serves all cells of one value size for one round
	Keys      int
	Values    []int
	Conns     []int
	Pipelines []int
	Rounds    int
	Duration  time.Duration
	Warmup    time.Duration
	Workers   int
	Seed      uint64
	Progress  Progress // may be nil
	Notes     io.Writer

	tls *TLS
}

// Series is one thing that is measured: an operation at a place. The comparison is between series.
type Series string

const (
	WhaleSet     Series = "whale SET"
	WhaleGet     Series = "whale GET at the primary"
	WhaleBackup  Series = "whale GET at a backup"
	RedisSet     Series = "redis SET, asynchronous"
	RedisSetWait Series = "redis SET + WAIT 2"
	RedisGet     Series = "redis GET"
)

// seriesOrder is the order within a cell: A, B, A, B.
var seriesOrder = []Series{WhaleSet, RedisSet, RedisSetWait, WhaleGet, RedisGet, WhaleBackup}

func (s Series) op() Op {
	switch s {
	case WhaleGet, WhaleBackup, RedisGet:
		return Get
	case RedisSetWait:
		return SetWait
	}
	return Set
}

// place is what the series of one cell have in common.
type place struct{ Value, Conns, Pipeline int }

// Run measures everything; it ends whatever it started before it returns.
func (c *Compare) Run(ctx context.Context) (*Comparison, error) {
	dir, err := os.MkdirTemp(c.parent(), "whale-compare-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	limits := map[int]uint64{}
	for _, v := range c.Values {
		if limits[v], err = budget(c.Arena, v, c.Keys, len(c.Conns)*len(c.Pipelines)); err != nil {
			return nil, err
		}
		fmt.Fprintf(c.Notes, "%s values: at most %d SETs a run, so that %d keys and %d runs of SET fit an arena of %s\n",
			bytesText(uint64(v)), limits[v], c.Keys, len(c.Conns)*len(c.Pipelines), bytesText(c.Arena))
	}
	free, err := freeBytes(dir)
	if err != nil {
		return nil, err
	}
	if free < c.disk() {
		return nil, fmt.Errorf("%s has %s free, three nodes need %s: name another folder with --dir or lower --arena",
			dir, bytesText(free), bytesText(c.disk()))
	}
	fmt.Fprintf(c.Notes, "data in %s\n", dir)
	whale := c.Whale
	if c.Secure {
		if c.tls, err = selfSigned(filepath.Join(dir, "certs")); err != nil {
			return nil, err
		}
		fmt.Fprintln(c.Notes, "TLS 1.3 for all clients, and between the servers as far as they speak over sockets")
		whale = append(slices.Clone(whale), c.tls.flags("--tls-cert", "--tls-key", "--tls-ca")...)
	}
	out := &Comparison{samples: map[place]map[Series][]Sample{}, Values: c.Values, Conns: c.Conns, Pipelines: c.Pipelines, Network: c.Network}
	for i, v := range c.Values {
		if err := c.value(ctx, dir, whale, i, v, limits[v], out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// disk is what the files of three nodes take.
func (c *Compare) disk() uint64 { return 3 * (c.Arena + 64<<20) }

func (c *Compare) parent() string {
	const memory = "/dev/shm"
	if free, err := freeBytes(memory); c.Dir == "" && err == nil && free > 2*c.disk() {
		return memory
	}
	return c.Dir
}

func freeBytes(dir string) (uint64, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("%s: statfs: %w", dir, err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}

// value measures all cells of one size of values: one Redis for all rounds, a fresh Whale for each.
func (c *Compare) value(ctx context.Context, dir string, whale []string, index, value int, limit uint64, out *Comparison) error {
	redis, err := startRedis(ctx, c.RedisServer, dir, c.tls)
	if err != nil {
		return err
	}
	defer redis.stop()
	if err := fill(ctx, c.tls, redis.addrs[0], redis.addrs, c.Keys, value); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	for round := range c.Rounds {
		if err := c.round(ctx, dir, whale, redis, index*c.Rounds+round, value, limit, out); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
	}
	return nil
}

func (c *Compare) round(ctx context.Context, dir string, argv []string, redis *redisTrio, step, value int, limit uint64, out *Comparison) error {
	whale, err := startWhale(ctx, argv, dir, c.Arena, c.tls)
	if err != nil {
		return err
	}
	defer whale.stop()
	if step == 0 {
		for _, addr := range redis.addrs {
			id, err := Identify(addr, c.tls)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.Notes, id)
		}
		for _, id := range whale.ids {
			fmt.Fprintln(c.Notes, id)
		}
	}
	var addrs []string
	for _, id := range whale.ids {
		addrs = append(addrs, id.Addr)
	}
	if err := fill(ctx, c.tls, whale.primary, addrs, c.Keys, value); err != nil {
		return fmt.Errorf("whale: %w", err)
	}
	at := map[Series]string{
		WhaleSet: whale.primary, WhaleGet: whale.primary, WhaleBackup: whale.backup,
		RedisSet: redis.addrs[0], RedisSetWait: redis.addrs[0], RedisGet: redis.addrs[0],
	}
	cells, done := len(c.Pipelines)*len(c.Conns)*len(seriesOrder), 0
	for _, p := range c.Pipelines {
		for _, n := range c.Conns {
			for _, s := range seriesOrder {
				pl := place{value, n, p}
				if c.Progress != nil {
					c.Progress.Step(fmt.Sprintf("%s, %s, %d conn, pipeline %d", s, bytesText(uint64(value)), n, p),
						step*cells+done, len(c.Values)*c.Rounds*cells)
				}
				sample, err := c.measure(ctx, s, pl, at[s], limit)
				if err != nil {
					return err
				}
				out.add(pl, s, sample)
				done++
			}
		}
	}
	return redis.check()
}

func (c *Compare) measure(ctx context.Context, s Series, p place, addr string, limit uint64) (Sample, error) {
	l := Load{
		Addrs: []string{addr}, Op: s.op(), Conns: p.Conns, Pipeline: p.Pipeline, Value: p.Value, Keys: c.Keys, Duration: c.Duration,
		Warmup: c.Warmup, Replicas: 2, Workers: c.Workers, Seed: c.Seed, TLS: c.tls,
	}
	if l.Op != Get {
		l.Count = limit
	}
	if c.Progress != nil {
		l.Progress = c.Progress.Part
	}
	res, err := l.Run(ctx)
	if err == nil {
		err = res.Err()
	}
	if err == nil && l.Op != Get {
		err = settle(addr, c.tls, p.Value)
	}
	if err != nil {
		return Sample{}, fmt.Errorf("%s, %s, %d connections, pipeline %d: %w", s, bytesText(uint64(p.Value)), p.Conns, p.Pipeline, err)
	}
	return SampleOf(res), nil
}
