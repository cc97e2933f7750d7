package shm

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"whale/fabric"
	"whale/pmem"
)

// Tests with several processes start this test binary again in a role. The two talk in lines.

const roleVar = "WHALE_SHM_TEST_ROLE"

var roles = map[string]func(args []string){
	"target": roleTarget,
	"writer": roleWriter,
	"pong":   rolePong,
	"hold":   func([]string) { io.Copy(io.Discard, os.Stdin) },
}

func TestMain(m *testing.M) {
	if role := roles[os.Getenv(roleVar)]; role != nil {
		role(os.Args[1:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// patience is for what happens within milliseconds unless the machine is very busy.
const patience = 20 * time.Second

type child struct {
	t     testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
}

func start(t testing.TB, role string, args ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0], args...), lines: make(chan string, 100)}
	c.cmd.Env = append(os.Environ(), roleVar+"="+role)
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.in = in
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	go func() {
		defer close(c.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	return c
}

// hear waits for a line that starts with the word, and returns the rest of it.
func (c *child) hear(word string) string {
	c.t.Helper()
	select {
	case line, ok := <-c.lines:
		rest, found := strings.CutPrefix(line, word)
		if !ok || !found {
			c.t.Fatalf("child said %q, expected %q", line, word)
		}
		return strings.TrimSpace(rest)
	case <-time.After(patience):
		c.t.Fatalf("child did not say %q", word)
	}
	return ""
}

func (c *child) say(line string) { fmt.Fprintln(c.in, line) }

func (c *child) signal(s syscall.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
	if s == syscall.SIGSTOP {
		until(c.t, "the child is stopped", func() bool { return c.state() == "T" })
	}
}

// state is field 3 of /proc/PID/stat: R, S, T ...
func (c *child) state() string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return ""
	}
	return string(stat[strings.LastIndexByte(string(stat), ')')+2])
}

func (c *child) kill() {
	c.cmd.Process.Kill()
	c.in.Close()
	c.cmd.Wait()
}

func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

// check is for children, who have no testing.T.
func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
}

// roleTarget (folder, memory file): registers the file for everything, accepts whoever comes, and lives until its
// standard input ends.
func roleTarget(args []string) {
	e, err := Open(args[0], Options{Secret: testSecret})
	check(err)
	m, err := pmem.Open(args[1])
	check(err)
	key, err := e.Register(m, 0, uint64(len(m.Bytes())), allRights)
	check(err)
	fmt.Println("key", uint64(key))
	go func() {
		for {
			c, err := e.Accept(context.Background(), func(hello []byte) ([]byte, error) { return hello, nil })
			if err != nil {
				fmt.Println("accept", err)
				continue
			}
			if len(args) > 2 { // leave the socket to another process
				sock, err := c.(*conn).sock.File()
				check(err)
				hold := exec.Command(os.Args[0])
				hold.Env = append(os.Environ(), roleVar+"=hold")
				hold.Stdin = os.Stdin
				hold.ExtraFiles = []*os.File{sock}
				check(hold.Start())
				sock.Close()
			}
			fmt.Println("accepted")
		}
	}()
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// roleWriter (folder, target, key): writes 3 MiB, and inside the first chunk says so and waits for a line; then says
// how it ended.
func roleWriter(args []string) {
	e, err := Open(args[0], Options{Secret: testSecret})
	check(err)
	fc, _, err := e.Dial(context.Background(), args[1], nil)
	check(err)
	key, err := strconv.ParseUint(args[2], 10, 64)
	check(err)
	c := fc.(*conn)
	lines := bufio.NewScanner(os.Stdin)
	c.midCopy = func() {
		c.midCopy = nil
		fmt.Println("inside")
		lines.Scan()
	}
	m := pmem.Heap(3 << 20)
	for i := range m.Bytes() {
		m.Bytes()[i] = 0xEE
	}
	local, err := e.Register(m, 0, 3<<20, fabric.LocalOnly)
	check(err)
	c.Post([]fabric.Op{{Kind: fabric.Write, Flags: fabric.Signaled, Len: 3 << 20,
		Local: fabric.Span{Key: local}, Remote: fabric.Addr{Key: fabric.Key(key)}}})
	var done [1]fabric.Completion
	c.Poll(done[:])
	fmt.Println("ended", done[0].Err)
	io.Copy(io.Discard, os.Stdin)
}
