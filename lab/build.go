package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/schollz/progressbar/v3"

	"whale/lab/steps"
)

// program is one that is built for the guest.
type program struct {
	pkg   string
	test  bool     // the package's test program
	verbs bool     // with cgo, against rdma-core
	steps []string // that run it; none: all
}

var programs = map[string]program{
	"init":        {pkg: "./lab/guest"},
	"pmem.test":   {pkg: "./pmem", test: true, steps: []string{"pmem"}},
	"shm.test":    {pkg: "./fabric/shm", test: true, steps: []string{"shm"}},
	"tcp.test":    {pkg: "./fabric/tcp", test: true, steps: []string{"tcp"}},
	"verbs.test":  {pkg: "./fabric/verbs", test: true, verbs: true, steps: []string{"verbs"}},
	"mirror.test": {pkg: "./mirror", test: true, verbs: true, steps: []string{"mirror"}},
	"node.test":   {pkg: "./internal/node", test: true, steps: []string{"node"}},
	"e2e.test":    {pkg: "./internal/e2e", test: true, steps: []string{"whale-tcp", "whale-verbs"}},
	"whale":       {pkg: "./cmd/whale", steps: []string{"mirror", "whale-tcp", "whale-verbs"}},
}

// build builds what the steps run, to a folder, and returns where each program is.
func build(ctx context.Context, t *tree, to string, wanted []steps.Step) (map[string]string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	verbs := slices.ContainsFunc(wanted, func(s steps.Step) bool { return s.Verbs })
	built := map[string]string{}
	for name, p := range programs {
		runs := func(s steps.Step) bool { return slices.Contains(p.steps, s.Name) }
		if p.steps == nil || slices.ContainsFunc(wanted, runs) {
			built[name] = filepath.Join(to, name)
		}
	}
	bar := progressbar.NewOptions(len(built), progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription("building"),
		progressbar.OptionClearOnFinish(), progressbar.OptionFullWidth())
	defer bar.Finish()
	for name, out := range built {
		p := programs[name]
		if err := p.build(ctx, t, root, out, p.verbs || name == "whale" && verbs); err != nil {
			return nil, err
		}
		bar.Add(1)
	}
	return built, nil
}

func (p program) build(ctx context.Context, t *tree, root, out string, verbs bool) error {
	args := []string{"build"}
	if p.test {
		args = []string{"test", "-c"}
	}
	args = append(args, "-ldflags=-s -w", "-o", out)
	env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64"}
	if verbs {
		args = append(args, "-tags", "verbs")
		env = append(env, "CGO_ENABLED=1", "CGO_CFLAGS=-O2 -I"+t.headers(),
			"CGO_LDFLAGS=-L"+t.libs()+" -Wl,--allow-shlib-undefined", "CGO_LDFLAGS_ALLOW=-Wl,--allow-shlib-undefined")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, p.pkg)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), env...)
	_, err := output(cmd)
	return err
}

// moduleRoot is the folder of Whale's module, in which the lab must be started.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := output(exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Path}} {{.Dir}}"))
	if err != nil {
		return "", err
	}
	var path, dir string
	if n, _ := fmt.Sscanf(out, "%s %s", &path, &dir); n != 2 || path != "whale" {
		return "", errors.New("start the lab inside Whale's source: go run ./lab")
	}
	return dir, nil
}
