// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestDistributionShowsThePage shows real traffic in Chromium. What the page must show is in
// internal/view/page/test/traffic.mjs.
func TestDistributionShowsThePage(t *testing.T) {
	const sources = "../../internal/view/page"
	for _, need := range []string{"node", "chromium", sources + "/node_modules/playwright-core/cli.js"} {
		if _, err := exec.LookPath(need); err == nil {
			continue
		} else if _, err := os.Stat(need); err == nil {
			continue
		}
		if os.Getenv("NETTAP_KERNEL_TESTS") == "require" {
			t.Fatalf("there is no %s", need)
		}
		t.Skipf("there is no %s: .ci/setup and make page-tools install what the browser needs", need)
	}
	_, address := startWithView(t, "")
	at, closed := listen(t), freePort(t)
	talker := exec.Command("bash", "-c", fmt.Sprintf(
		"exec 3<>/dev/tcp/127.0.0.1/%d; while read -rt 0.1; [ $? -gt 128 ]; do echo hello >&3; echo x 2>/dev/null >/dev/udp/127.0.0.1/%d; done; true", at.Port, closed))
	kerneltest.StartProgram(t, talker)

	told, err := json.Marshal(map[string]any{"address": "http://" + address, "pid": talker.Process.Pid, "port": at.Port})
	if err != nil {
		t.Fatal(err)
	}
	look := exec.Command("node", "test/traffic.mjs")
	look.Dir = sources
	look.Env = append(os.Environ(), "NETTAP_TRAFFIC="+string(told))
	if output, err := look.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}
