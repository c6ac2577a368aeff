# Both are pinned by digest at release. The bundle is the same for every platform, so it is built once, on the builder's.
ARG BUILD_IMAGE=docker.io/library/node:24-bookworm-slim
ARG NODE_IMAGE=gcr.io/distroless/nodejs24-debian12:nonroot

FROM --platform=$BUILDPLATFORM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY scripts/bundle.ts scripts/
COPY src src
RUN node scripts/bundle.ts

FROM ${NODE_IMAGE}
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ecr-pull-secrets" \
      org.opencontainers.image.description="Amazon ECR pull secrets for every Kubernetes cluster that is not AWS's own" \
      org.opencontainers.image.source="https://github.com/ecr-pull-secrets/ecr-pull-secrets" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /src/dist /app
COPY LICENSE /app/
# Any other user works as well: nothing is written, and all files are readable by everybody.
USER 65532:65532
WORKDIR /app
# One heap of glibc's for all threads: a tenth less memory, and no slower, as JavaScript has its own.
ENV MALLOC_ARENA_MAX=1
# A debugger that a signal opens, and an accessor that turns JSON's keys into prototypes, are nothing that we use. The
# heap is a share of the container's memory limit.
ENTRYPOINT ["/nodejs/bin/node", \
  "--disable-sigusr1", \
  "--disable-proto=delete", \
  "--max-old-space-size-percentage=60", \
  "--max-semi-space-size=4", \
  "/app/ecr-pull-secrets.js"]
