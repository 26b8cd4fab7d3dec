# Wheels alone, hashes checked: nothing is compiled, and what runs is what requirements.lock names.
FROM python:3.13.14-slim-bookworm AS packages
COPY requirements.lock /
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /venv && \
    pip --python /venv/bin/python install --no-deps --only-binary :all: --require-hashes -r /requirements.lock

FROM python:3.13.14-slim-bookworm
# A fixed number, so that volumes and policies can name it.
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin app && \
    pip uninstall --yes --no-cache-dir pip
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ENVIRONMENT=production \
    HOST=0.0.0.0 \
    PORT=8000
WORKDIR /srv
COPY --from=packages /venv /venv
COPY pyproject.toml ./
COPY app ./app
# Whatever the umask of the checkout was.
RUN chmod -R a+rX . && python -m compileall -q app
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=3s --start-period=30s --start-interval=1s --retries=3 \
    CMD ["python", "-ISc", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/health/ready', timeout=2)"]
# Last, since each commit has another one: all layers above are those of the build before.
ARG VERSION=0.1.0
ARG REVISION=unknown
ENV REVISION=${REVISION}
LABEL org.opencontainers.image.title="task-api" \
      org.opencontainers.image.description="An API that can be traced, measured and trusted" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENTRYPOINT ["python", "-m", "app"]
CMD ["serve"]
