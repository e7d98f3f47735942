// Command bench measures what the instruments cost:
//
//	go run ./internal/bench [flags]
//
// In guests whose clocks count instructions, by kernel and by each way to attach an
// instrument, it finds how many more instructions an operation takes; on this machine,
// as root, how many nanoseconds. Beside each is what empty programs at the same hooks
// take. How many instructions there are may be recorded, and compared with.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/seed-7756021b/nettap/internal/vm"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := bench{build: filepath.Join("build", "bench")}
	store := flag.String("cache", vm.DefaultStore(), "directory to keep kernels in ($NETTAP_CACHE)")
	only := flag.String("kernel", `amd64 linux-image-(6\.1|6\.12|6\.18|7)\.\*-cloud`, "the kernels whose line in testdata/kernels.txt this regular expression matches")
	flag.StringVar(&b.only, "only", "", "only the cases that this regular expression matches: traffic, drops, accepts, calls, all")
	flag.BoolVar(&b.everyRung, "every-rung", true, "each way to attach an instrument, not only what is chosen")
	flag.BoolVar(&b.floors, "floors", true, "empty programs at the same hooks, too")
	flag.BoolVar(&b.verbose, "v", false, "print what the guests print")
	guests := flag.Bool("guests", true, "count instructions in guests")
	flag.Parse()
	var err error
	if b.plan, err = vm.ReadPlan(filepath.Join("testdata", "kernels.txt"), *only); err != nil {
		log.Fatal("bench: ", err)
	}
	b.store = vm.NewStore(*store)
	began := time.Now()
	if *guests {
		counted, err := b.count(ctx, ".")
		for _, of := range counted {
			fmt.Print(of.table("instructions"))
		}
		if err != nil {
			log.Fatal("bench: ", err)
		}
	}
	log.Printf("in %v", time.Since(began).Round(time.Second))
}
