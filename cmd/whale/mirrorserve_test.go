//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"whale/fabric"
	"whale/fabric/shm"
	"whale/fabric/tcp"
	"whale/internal/node"
	"whale/mirror"
	"whale/pmem"
)

// TestMirrorServe: a program mirrors its region to the command, over each fabric; the file is a copy that can be opened.
func TestMirrorServe(t *testing.T) {
	for name, open := range map[string]func(dir string, secret []byte) (fabric.Endpoint, error){
		"shm": func(dir string, secret []byte) (fabric.Endpoint, error) {
			return shm.Open(filepath.Join(dir, "own"), shm.Options{Secret: secret})
		},
		"tcp": func(_ string, secret []byte) (fabric.Endpoint, error) {
			return tcp.Open(tcp.Options{Listen: "127.0.0.1:0", Secret: secret})
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			secretFile, file := filepath.Join(dir, "secret"), filepath.Join(dir, "copy")
			if err := node.CreateSecret(secretFile); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(secretFile)
			if err != nil {
				t.Fatal(err)
			}
			secret, err := hex.DecodeString(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			out, in := io.Pipe()
			cmd := rootCmd()
			cmd.SetArgs([]string{"mirror", "serve", "--file", file, "--size", "64KiB", "--secret", secretFile, "--fabric", name, "--listen", "127.0.0.1:0"})
			cmd.SetOut(in)
			done := make(chan error, 1)
			go func() { done <- cmd.ExecuteContext(ctx); in.Close() }()
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatalf("it says nothing: %v", <-done)
			}
			go io.Copy(io.Discard, out)
			_, addr, _ := strings.Cut(strings.TrimSpace(line), " at ")
			ep, err := open(dir, secret)
			if err != nil {
				t.Fatal(err)
			}
			defer ep.Close()
			m, err := pmem.Map(filepath.Join(dir, "region"), 64<<10, pmem.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			r, err := mirror.Open(ctx, m, ep, []string{addr}, mirror.Options{Strategy: mirror.DDIODisabled})
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			tx, err := r.Begin()
			if err != nil {
				t.Fatal(err)
			}
			tx.Write(100, []byte("mirrored"))
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
			left, err := pmem.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer left.Close()
			copy, err := mirror.Open(context.Background(), left, nil, nil, mirror.Options{})
			if err != nil || string(copy.Bytes()[100:108]) != "mirrored" {
				t.Errorf("the mirror's file: %v", err)
			}
			r.Close()
		})
	}
}

// TestMirrorBench: every strategy runs against a mirror that another endpoint serves, twice on the same data; what cannot
// work is said at once.
func TestMirrorBench(t *testing.T) {
	dir := t.TempDir()
	secret, copy, region := filepath.Join(dir, "secret"), filepath.Join(dir, "copy"), filepath.Join(dir, "region")
	if err := node.CreateSecret(secret); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	out, in := io.Pipe()
	serve := rootCmd()
	serve.SetArgs([]string{"mirror", "serve", "--file", copy, "--size", "8MiB", "--secret", secret})
	serve.SetOut(in)
	done := make(chan error, 1)
	go func() { done <- serve.ExecuteContext(ctx); in.Close() }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("it says nothing: %v", <-done)
	}
	go io.Copy(io.Discard, out)
	bench := func(args ...string) (string, error) {
		cmd := rootCmd()
		var text strings.Builder
		cmd.SetOut(&text)
		cmd.SetArgs(append([]string{"mirror", "bench", "--secret", secret, "--transactions", "20", "--rounds", "2"}, args...))
		err := cmd.Execute()
		return text.String(), err
	}
	for range 2 {
		text, err := bench("--mirror", copy+".fabric", "--file", region, "--size", "8MiB", "--workload", "transact-4")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range mirror.Strategies {
			if !strings.Contains(text, s.String()+" ") {
				t.Errorf("nothing is said of %v:\n%s", s, text)
			}
		}
	}
	small := filepath.Join(dir, "small")
	if err := os.WriteFile(small, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"needs":                       {"--mirror", copy + ".fabric", "--file", region, "--size", "4096", "--workload", "transact-4"},
		"small is 65536":              {"--mirror", copy + ".fabric", "--file", small, "--workload", "transact-4"},
		"is a group":                  {"--mirror", copy + ".fabric", "--file", region, "--workload", "transact"},
		"there is no workload":        {"--mirror", copy + ".fabric", "--file", region, "--workload", "x"},
		"8388608":                     {"--mirror", copy + ".fabric", "--file", region + "2", "--size", "16MiB", "--workload", "transact-4"},
		"count":                       {"--mirror", copy + ".fabric", "--file", region, "--rounds", "0", "--workload", "transact-4"},
		"required flag(s) \"mirror\"": {"--file", region},
		"strategy":                    {"--mirror", copy + ".fabric", "--file", region, "--strategy", "sm", "--workload", "transact-4"},
	} {
		if _, err := bench(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}

// TestMirrorServeRefuses: what cannot work is said at once.
func TestMirrorServeRefuses(t *testing.T) {
	dir := t.TempDir()
	secret, other := filepath.Join(dir, "secret"), filepath.Join(dir, "other")
	if err := node.CreateSecret(secret); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	copy := filepath.Join(dir, "copy")
	for want, args := range map[string][]string{
		"give --size":               {"--file", copy, "--secret", secret},
		"expected were 65536":       {"--file", other, "--size", "64KiB", "--secret", secret},
		"want auto, adr or eadr":    {"--file", other, "--domain", "pm", "--secret", secret},
		"want shm, tcp or verbs":    {"--file", other, "--fabric", "ib", "--secret", secret},
		"reached from outside":      {"--file", other, "--fabric", "tcp", "--listen", "0.0.0.0:0", "--secret", secret},
		"TLS goes over tcp only":    {"--file", other, "--tls-cert", "x", "--secret", secret},
		"bytes free":                {"--file", copy, "--size", "900TiB", "--secret", secret},
		"no such file":              {"--file", other, "--secret", filepath.Join(dir, "nothing")},
		"a multiple of 64 above":    {"--file", copy, "--size", "4096", "--secret", secret},
		"required flag(s) \"file\"": {"--secret", secret},
	} {
		cmd := rootCmd()
		cmd.SetArgs(append([]string{"mirror", "serve"}, args...))
		cmd.SetOut(io.Discard)
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}
