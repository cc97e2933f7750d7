//go:build linux

package eval

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"whale/fabric"
	"whale/internal/loopback"
	"whale/pmem"
)

// FabricBench measures every operation of the fabric between two processes of this machine: this one initiates, and a
// second one, which Target starts, has the memory.
type FabricBench struct {
	Providers []string
	Target    []string      // program and arguments that run [FabricTarget]; the provider and a folder are added
	Dir       string        // a temporary folder is made in it; empty: the system's, for verbs /dev/shm
	Duration  time.Duration // of each latency and each throughput run
}

// FabricRow is one operation on one provider.
type FabricRow struct {
	Provider, Op string
	Bytes        uint64
	P50, P99     time.Duration // one operation at a time, from Post to its completion
	PerSecond    float64       // in batches, unsignaled but for the last, several batches under way
}

const (
	fabricMemory = 1 << 20
	fabricBatch  = 64
	fabricWindow = 4 // batches under way
	fabricRecvs  = 256
)

// fabricOps are what is measured. All but Send name remote memory.
var fabricOps = []struct {
	name string
	op   fabric.Op
}{
	{"Write", fabric.Op{Kind: fabric.Write, Len: 64}},
	{"Write", fabric.Op{Kind: fabric.Write, Len: 4096}},
	{"Write", fabric.Op{Kind: fabric.Write, Len: 64 << 10}},
	{"Read", fabric.Op{Kind: fabric.Read, Len: 64}},
	{"Read", fabric.Op{Kind: fabric.Read, Len: 4096}},
	{"Read", fabric.Op{Kind: fabric.Read, Len: 64 << 10}},
	{"Write8", fabric.Op{Kind: fabric.Write8, Len: 8}},
	{"CompareSwap", fabric.Op{Kind: fabric.CompareSwap, Len: 8}},
	{"FetchAdd", fabric.Op{Kind: fabric.FetchAdd, Len: 8, A: 1}},
	{"Flush, durable", fabric.Op{Kind: fabric.Flush, Len: 4096, A: fabric.Durable}},
	{"Fence", fabric.Op{Kind: fabric.Fence}},
	{"Send", fabric.Op{Kind: fabric.Send, Len: 64}},
	{"Send", fabric.Op{Kind: fabric.Send, Len: 64 << 10}},
}

// openProvider makes an endpoint, at an address of its own choice, and memory in dir that it can share.
func openProvider(provider, dir string) (fabric.Endpoint, *pmem.File, error) {
	memory, err := pmem.Map(filepath.Join(dir, "memory"), fabricMemory, pmem.Options{})
	if err != nil {
		return nil, nil, err
	}
	e, err := loopback.Open(provider, dir, loopback.Memory{Domain: memory.Domain()})
	if err != nil {
		memory.Close()
		return nil, nil, err
	}
	return e, memory, nil
}

// fabricOffer is what the target says, as a line of JSON.
type fabricOffer struct {
	Addr string
	Key  fabric.Key
}

// FabricTarget is the second process: it offers memory, says so on out, accepts one connection, and takes in messages
// until in ends.
func FabricTarget(ctx context.Context, provider, dir string, in io.Reader, out io.Writer) (err error) {
	e, memory, err := openProvider(provider, dir)
	if err != nil {
		return err
	}
	defer memory.Close()
	defer func() { err = errors.Join(err, e.Close()) }()
	key, err := e.Register(memory, 0, fabricMemory, fabric.RemoteRead|fabric.RemoteWrite|fabric.RemoteAtomic|fabric.RemoteFlush)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(fabricOffer{e.Addr(), key}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		io.Copy(io.Discard, in)
		cancel()
	}()
	c, err := e.Accept(ctx, func([]byte) ([]byte, error) { return nil, nil })
	if err != nil {
		return err
	}
	recv := fabric.Op{Kind: fabric.Recv, Local: fabric.Span{Key: key}, Len: 64 << 10}
	for range fabricRecvs {
		c.Post([]fabric.Op{recv})
	}
	var done [fabricRecvs]fabric.Completion
	for ctx.Err() == nil {
		n := c.Poll(done[:])
		for _, d := range done[:n] {
			if d.Err != nil {
				return nil // the other side is through
			}
			c.Post([]fabric.Op{recv})
		}
		if n == 0 && e.Arm() {
			e.Wait(100 * time.Millisecond)
		}
	}
	return nil
}

// Run measures. It returns what it has when ctx ends.
func (b *FabricBench) Run(ctx context.Context) (rows []FabricRow, err error) {
	runtime.LockOSThread() // a loop of a node has a thread, too
	defer runtime.UnlockOSThread()
	for _, provider := range b.Providers {
		more, err := b.provider(ctx, provider)
		rows = append(rows, more...)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", provider, err)
		}
	}
	return rows, nil
}

func (b *FabricBench) provider(ctx context.Context, provider string) (rows []FabricRow, err error) {
	above := b.Dir
	if provider == "verbs" && above == "" {
		above = "/dev/shm" // an RDMA device is not given files on storage
	}
	dir, err := os.MkdirTemp(above, "whale-fabric-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	near, far := filepath.Join(dir, "near"), filepath.Join(dir, "far")
	if err := errors.Join(os.Mkdir(near, 0o700), os.Mkdir(far, 0o700)); err != nil {
		return nil, err
	}
	target := exec.Command(b.Target[0], append(append([]string{}, b.Target[1:]...), provider, far)...)
	target.Stderr = os.Stderr
	target.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := target.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := target.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := target.Start(); err != nil {
		return nil, err
	}
	defer func() {
		stdin.Close()
		err = errors.Join(err, target.Wait())
	}()
	var offer fabricOffer
	if err := json.NewDecoder(bufio.NewReader(stdout)).Decode(&offer); err != nil {
		return nil, fmt.Errorf("the target did not start: %w", err)
	}
	e, memory, err := openProvider(provider, near)
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	defer func() { err = errors.Join(err, e.Close()) }()
	key, err := e.Register(memory, 0, fabricMemory, fabric.LocalOnly)
	if err != nil {
		return nil, err
	}
	c, _, err := e.Dial(ctx, offer.Addr, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	i := initiator{e: e, c: c}
	for _, o := range fabricOps {
		op := o.op
		op.Local.Key, op.Remote.Key = key, offer.Key
		row := FabricRow{Provider: provider, Op: o.name, Bytes: op.Len}
		if row.P50, row.P99, err = i.latency(ctx, op, b.Duration); err == nil {
			row.PerSecond, err = i.throughput(ctx, op, b.Duration)
		}
		if err != nil {
			return rows, fmt.Errorf("%s of %d bytes: %w", o.name, op.Len, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// initiator drives one connection, and parks when there is nothing to do, as a node does.
type initiator struct {
	e    fabric.Endpoint
	c    fabric.Conn
	done [16]fabric.Completion
}

// await takes at least one completion.
func (i *initiator) await(ctx context.Context) (int, error) {
	for {
		n := i.c.Poll(i.done[:])
		for _, d := range i.done[:n] {
			if d.Err != nil {
				return n, d.Err
			}
		}
		if n > 0 {
			return n, nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if i.e.Arm() {
			i.e.Wait(100 * time.Millisecond)
		}
	}
}

// post hands over all of ops; completions that come meanwhile are counted.
func (i *initiator) post(ctx context.Context, ops []fabric.Op) (ended int, err error) {
	for {
		ops = ops[i.c.Post(ops):]
		if len(ops) == 0 {
			return ended, nil
		}
		n, err := i.await(ctx)
		if ended += n; err != nil {
			return ended, err
		}
	}
}

func (i *initiator) latency(ctx context.Context, op fabric.Op, d time.Duration) (p50, p99 time.Duration, err error) {
	h := hdrhistogram.New(1, int64(10*time.Second), 3)
	op.Flags |= fabric.Signaled
	for began, warm := time.Now(), true; ; {
		at := time.Now()
		if warm && at.Sub(began) > d/10 {
			warm = false
			h.Reset()
		}
		if at.Sub(began) > d && h.TotalCount() > 0 { // also after a stall that was longer than d
			break
		}
		if _, err := i.post(ctx, []fabric.Op{op}); err != nil {
			return 0, 0, err
		}
		if _, err := i.await(ctx); err != nil {
			return 0, 0, err
		}
		h.RecordValue(int64(time.Since(at)))
	}
	return time.Duration(h.ValueAtQuantile(50)), time.Duration(h.ValueAtQuantile(99)), nil
}

func (i *initiator) throughput(ctx context.Context, op fabric.Op, d time.Duration) (perSecond float64, err error) {
	batch := make([]fabric.Op, fabricBatch)
	for k := range batch {
		batch[k] = op
	}
	batch[fabricBatch-1].Flags |= fabric.Signaled
	began, ended, underWay := time.Now(), 0, 0
	for time.Since(began) < d || underWay > 0 {
		if underWay < fabricWindow && time.Since(began) < d {
			n, err := i.post(ctx, batch)
			if ended, underWay = ended+n, underWay+1-n; err != nil {
				return 0, err
			}
			continue
		}
		n, err := i.await(ctx)
		if ended, underWay = ended+n, underWay-n; err != nil {
			return 0, err
		}
	}
	return float64(ended*fabricBatch) / time.Since(began).Seconds(), nil
}

// WriteFabric prints a table.
func WriteFabric(w io.Writer, rows []FabricRow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "PROVIDER\tOPERATION\tBYTES\tP50 µs\tP99 µs\tOPS/s\tMB/s\t")
	for _, r := range rows {
		moved := "-"
		if r.Op == "Write" || r.Op == "Read" || r.Op == "Send" {
			moved = fmt.Sprintf("%.1f", r.PerSecond*float64(r.Bytes)/1e6)
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%.2f\t%.2f\t%.0f\t%s\t\n", r.Provider, r.Op, r.Bytes,
			float64(r.P50)/1e3, float64(r.P99)/1e3, r.PerSecond, moved)
	}
	return t.Flush()
}
