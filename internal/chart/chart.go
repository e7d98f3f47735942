// SPDX-License-Identifier: Apache-2.0

// Package chart has the tests of the Helm chart in deploy/helm. It is a module of its own, so that Helm
// and the types of the Kubernetes API are not dependencies of the receiver.
package chart
