//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"whale/internal/resp"
)

// The test binary is the program, too.
func TestMain(m *testing.M) {
	if os.Getenv("WHALE_TEST_PROGRAM") != "" {
		main()
		return
	}
	os.Setenv("WHALE_TEST_PROGRAM", "yes") // for everything that the tests start, and what that starts
	os.Exit(m.Run())
}

// whale is the program, about to run in dir.
func whale(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = dir
	return cmd
}

// says runs the program with a line of arguments and checks its exit code and what it says.
func says(t *testing.T, dir, line string, code int, want ...string) {
	t.Helper()
	cmd := whale(t, dir, strings.Fields(line)...)
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("whale %s: exit code %d, want %d: %s", line, got, code, out)
	}
	for _, w := range want {
		if !regexp.MustCompile(w).Match(out) {
			t.Errorf("whale %s: %s\nwant %q in it", line, out, w)
		}
	}
	if bytes.Contains(out, []byte("goroutine ")) {
		t.Errorf("whale %s: a crash: %s", line, out)
	}
}

func TestHelp(t *testing.T) {
	dir := t.TempDir()
	says(t, dir, "", 0, "whale dev", "serve +Run one node")
	says(t, dir, "serve --help", 0, "whale serve --id 1 --peers a,b,c", "-arena size")
	says(t, dir, "dev --help", 0, "whale dev --nodes 5", `number of nodes, 1 to 7 \(default 3\)`)
	says(t, dir, "version", 0, "^whale ", "go +go1\\.", "node protocol +[0-9]")
	says(t, dir, "nonsense", 1, `unknown command "nonsense"`)
	says(t, dir, "dev --nonsense", 1, "unknown flag: --nonsense; see whale dev --help")
	says(t, dir, "dev stray", 1, `unknown command "stray" for "whale dev"`)
	if out, _ := whale(t, dir, "serve", "--help").CombinedOutput(); bytes.Contains(out, []byte("parent-fd")) {
		t.Errorf("help shows flags that are for programs: %s", out)
	}
}

// taken is a port on which somebody listens.
func taken(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// What a wrong setting answers: the flag, what was expected, what to do; and whether trying again may help.
func TestServeErrors(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"serve --id 0 --peers a,b":                            "--secret is missing.*openssl rand",
		"serve --id 2 --peers a,b --secret secret":            "--id 2: there are 2 members, so expected 0 to 1",
		"serve --secret secret":                               "--peers",
		"serve --peers a,./a --secret secret":                 "members 0 and 1 have the same data folder",
		"serve --peers a,b --dir c --secret secret":           "--dir c is not what --peers has at place 0",
		"serve --dir a --secret none":                         "cluster secret: .*none: no such file",
		"serve --dir a --secret secret --listen 0.0.0.0:7001": "--insecure",
		"serve --dir a --secret secret --timeout 0s":          "--timeout 0s",
		"serve --dir a --secret secret --log-level loud":      `--log-level "loud": expected debug`,
		"serve --dir a --secret secret --max-clients 0":       "--max-clients 0",
		"serve --dir a --secret secret --threads 1000":        "--threads 1000",
		"serve --dir a --secret secret --port 0 --arena 1MiB": "--arena: .*too small",
		"serve --dir a --secret secret --listen nowhere":      "host:port",
	} {
		says(t, dir, line, 65, want)
	}
	says(t, dir, "serve --dir a --secret secret --arena 1GB", 1, `invalid argument "1GB" for "--arena".*64MiB or 1GiB`)
	says(t, dir, "serve --dir a --secret secret --listen 127.0.0.1:1 --port 2", 1, "listen port")
	if _, err := os.Stat(filepath.Join(dir, "a", "memory")); err == nil {
		t.Error("a wrong setting has left a memory behind")
	}

	port := taken(t)
	says(t, dir, fmt.Sprint("serve --dir a --secret secret --arena 16MiB --port ", port), 1, fmt.Sprintf("127.0.0.1:%d: address already in use.*--port", port))
	says(t, dir, "serve --dir a --secret secret --arena 32MiB --port 0", 65, "a/memory has an arena of 16 MiB, and --arena asks for 32 MiB.*Leave --arena out")
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	says(t, dir, "serve --dir a --secret secret", 65, `secret can be read or written by others \(mode 0644\).*chmod 600 secret`)
}

func TestDevErrors(t *testing.T) {
	dir := t.TempDir()
	says(t, dir, "dev --nodes 0", 1, "--nodes 0: expected 1 to 7")
	says(t, dir, "dev --port 65535", 1, "--port 65535: 3 nodes need the ports 65535 to 65537")
	port := taken(t)
	says(t, dir, fmt.Sprint("dev --port ", port), 1, fmt.Sprintf("127.0.0.1:%d: bind: address already in use: stop what listens there, or choose other ports with --port", port))
	// A node that cannot start ends the start, with what it said last.
	says(t, dir, fmt.Sprint("dev --arena 1MiB --port ", basePort()), 1,
		"node . ended with exit code 65 while the cluster was starting", `node . \| whale: --arena: .*too small`)
}

// basePort is one of three ports that nobody else is likely to use.
func basePort() int { return 26000 + os.Getpid()%6000 }

// TestConfig: a file in, the effective settings out, which are a file again.
func TestConfig(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "node.toml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("threads = 3\nport = 9\n")
	says(t, dir, "config --config node.toml --port 8", 0, "(?m)^threads = 3$", "(?m)^port = 8$", "(?m)^# Threads that serve clients", "WHALE_MAX_CLIENTS; default 10000")
	out, err := whale(t, dir, "config", "--config", "node.toml").Output()
	if err != nil {
		t.Fatal(err)
	}
	write(string(out))
	if again, err := whale(t, dir, "config", "--config", "node.toml").Output(); err != nil || !bytes.Equal(again, out) {
		t.Errorf("read back: %v\n%s\nwant\n%s", err, again, out)
	}
	write("threads = 1000\nsecret = 'x'\ndir = 'a'\n")
	says(t, dir, "serve --config node.toml", 65, "--threads 1000: expected 1 to 64")
	write("\nthreads = 3\nthread = 4\n")
	for _, cmd := range []string{"serve", "config"} {
		code := map[string]int{"serve": 65, "config": 1}[cmd]
		says(t, dir, cmd+" --config node.toml", code, `node.toml:3: unknown setting "thread"`)
	}
}

// screen is what a program has printed so far.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (s *screen) await(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if m := re.FindStringSubmatch(s.String()); m != nil {
			return m
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for %q in:\n%s", pattern, s)
		}
	}
}

// ask sends one command on a connection of its own, and returns the reply as it is on the wire.
func ask(t *testing.T, port int, args ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	c.Write(resp.AppendCommand(nil, args...))
	raw, err := resp.NewReplyReader(c).NextRaw()
	if err != nil {
		t.Fatalf("%s at port %d: %v", strings.Join(args, " "), port, err)
	}
	return string(raw)
}

// TestDevFromEndToEnd is a day in the life of a small cluster: real processes, real files.
func TestDevFromEndToEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real processes")
	}
	dir := filepath.Join(t.TempDir(), "data")
	port := basePort()
	start := func() (*exec.Cmd, *screen) {
		var s screen
		cmd := whale(t, "", "dev", "--port", strconv.Itoa(port), "--dir", dir, "--arena", "16MiB")
		cmd.Stdout, cmd.Stderr = &s, &s
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		s.await(t, `Ctrl-C stops it`)
		return cmd, &s
	}
	dev, screen := start()
	for i := range 3 {
		key := fmt.Sprint("key", i)
		if got := ask(t, port+i, "SET", key, "hello"); got != "+OK\r\n" {
			t.Fatalf("SET at node %d: %q", i, got)
		}
		if got := ask(t, port+(i+1)%3, "GET", key); got != "$5\r\nhello\r\n" {
			t.Fatalf("GET at another node: %q", got)
		}
	}
	says(t, "", fmt.Sprint("status --addr 127.0.0.1:", port+1), 0, "0 +127.0.0.1:[0-9]+ +primary +serving", "2 +127.0.0.1:[0-9]+ +backup +serving", "everywhere +[0-9]+ +[0-9]+")
	for _, m := range regexp.MustCompile(`(http://\S+)/metrics`).FindAllStringSubmatch(screen.String(), -1) {
		if r, err := http.Get(m[1] + "/readyz"); err != nil || r.StatusCode != 200 {
			t.Errorf("%s: %v, %v", m[1], r, err)
		} else {
			r.Body.Close()
		}
	}
	if st, err := os.Stat(filepath.Join(dir, "cluster.secret")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the secret: %v, %v", st, err)
	}
	pid := func(i int) int {
		text, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("node", i), "whale.pid"))
		n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || n <= 1 {
			t.Fatalf("whale.pid of node %d: %q, %v", i, text, err)
		}
		return n
	}
	for i := range 3 {
		syscall.Kill(pid(i), syscall.SIGKILL)
		screen.await(t, fmt.Sprintf(`node %d \(pid \d+\) was killed by signal 9`, i))
		screen.await(t, fmt.Sprintf(`node %d is back`, i))
		for j := range 3 {
			if got := ask(t, port+i, "GET", fmt.Sprint("key", j)); got != "$5\r\nhello\r\n" {
				t.Fatalf("after node %d was killed: key%d is %q", i, j, got)
			}
		}
		if got := ask(t, port+i, "SET", "again", "x"); got != "+OK\r\n" {
			t.Fatalf("SET at node %d after it was killed: %q", i, got)
		}
	}

	// The parent dies without a chance to clean up: the nodes notice, and the next cluster finds everything.
	pids := []int{pid(0), pid(1), pid(2)}
	dev.Process.Kill()
	dev.Wait()
	for _, p := range pids {
		for deadline := time.Now().Add(10 * time.Second); syscall.Kill(p, 0) == nil; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d outlives its parent", p)
			}
		}
	}
	dev, screen = start()
	if got := ask(t, port, "DBSIZE"); got != ":4\r\n" {
		t.Errorf("after all: DBSIZE %q", got)
	}
	dev.Process.Signal(os.Interrupt)
	if err := dev.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v\n%s", err, screen)
	}
	screen.await(t, "stopped; the data is kept in "+regexp.QuoteMeta(dir))
}
