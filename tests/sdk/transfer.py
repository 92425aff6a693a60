"""Drives a control plane with an unmodified azure-mgmt-containerregistry, as a user's own script would.

What to use comes in the environment variable TRANSFER, in JSON. Prints what was seen, in JSON; whatever is not as
it must be ends the script with an exception.
"""

import json
import os
import sys
import time

from azure.core.credentials import AccessToken, AzureKeyCredential
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.core.pipeline.policies import AzureKeyCredentialPolicy
from azure.mgmt.containerregistry import ContainerRegistryManagementClient

GIVEN = json.loads(os.environ["TRANSFER"])
GROUP = "tests"
# Versions before 14 have these operations only where their api-version is asked for.
API_VERSION = GIVEN.get("api_version")


class Token:
    """A credential that gives the token of the test."""

    def get_token(self, *scopes, **kwargs):
        return AccessToken(GIVEN["token"], int(time.time()) + 3600)


def client(by_key):
    more = {"api_version": API_VERSION} if API_VERSION else {}
    if by_key:
        key = AzureKeyCredential(GIVEN["token"])
        more["authentication_policy"] = AzureKeyCredentialPolicy(key, "Authorization", prefix="Bearer")
    return ContainerRegistryManagementClient(Token(), GIVEN["subscription"], base_url=GIVEN["url"], **more)


def models(of):
    if API_VERSION:
        return of.models(API_VERSION)
    from azure.mgmt.containerregistry import models as newest

    return newest


class Transfer:
    """One pass through everything, with one kind of credential."""

    def __init__(self, by_key):
        self.client = client(by_key)
        self.models = models(self.client)
        # Bearer tokens over plain HTTP are refused unless each call says that it means it.
        self.plain = {} if by_key else {"enforce_https": False}
        self.prefix = GIVEN["prefix"] + ("key" if by_key else "token")
        # From 15 on, resources have their properties inside of `properties`.
        self.nested = hasattr(self.models, "ExportPipelineProperties")

    def resource(self, name, **properties):
        kind = getattr(self.models, name)
        outer = {key: properties.pop(key) for key in ("identity",) if key in properties}
        if self.nested:
            return kind(properties=getattr(self.models, name + "Properties")(**properties), **outer)
        return kind(**properties, **outer)

    @staticmethod
    def of(resource, name):
        inner = getattr(resource, "properties", None)
        return getattr(inner if inner is not None and hasattr(inner, name) else resource, name)

    def end(self, name, uri, secret):
        kind = getattr(self.models, name)
        return kind(type="AzureStorageBlobContainer", uri=uri, key_vault_uri=secret)

    def export_pipeline(self):
        target = self.end("ExportPipelineTargetProperties", GIVEN["source_container"], GIVEN["export_secret"])
        pipeline = self.resource(
            "ExportPipeline",
            identity=self.models.IdentityProperties(type="SystemAssigned"),
            target=target,
            options=["OverwriteBlobs", "ContinueOnErrors"],
        )
        name = self.prefix + "export"
        made = self.client.export_pipelines.begin_create(GROUP, "source", name, pipeline, **self.plain).result()
        assert self.of(made, "provisioning_state") == "Succeeded", made
        assert made.identity.principal_id, made
        return made

    def import_pipeline(self, name, container, secret, status):
        trigger = self.models.PipelineTriggerProperties(
            source_trigger=self.models.PipelineSourceTriggerProperties(status=status)
        )
        pipeline = self.resource(
            "ImportPipeline",
            identity=self.models.IdentityProperties(type="SystemAssigned"),
            source=self.end("ImportPipelineSourceProperties", container, secret),
            trigger=trigger,
            options=["OverwriteTags", "ContinueOnErrors"],
        )
        name = self.prefix + name
        made = self.client.import_pipelines.begin_create(GROUP, "target", name, pipeline, **self.plain).result()
        assert self.of(made, "provisioning_state") == "Succeeded", made
        return made

    def export_run(self, pipeline, artifacts, blob, tag=None):
        request = self.models.PipelineRunRequest(
            pipeline_resource_id=pipeline.id,
            artifacts=artifacts,
            target=self.models.PipelineRunTargetProperties(type="AzureStorageBlob", name=blob),
        )
        more = {"force_update_tag": tag} if tag else {}
        return self.resource("PipelineRun", request=request, **more)

    def import_run(self, pipeline, blob):
        request = self.models.PipelineRunRequest(
            pipeline_resource_id=pipeline.id,
            source=self.models.PipelineRunSourceProperties(type="AzureStorageBlob", name=blob),
        )
        return self.resource("PipelineRun", request=request)

    def put(self, registry, name, run):
        poller = self.client.pipeline_runs.begin_create(GROUP, registry, self.prefix + name, run, **self.plain)
        return poller.result()

    def get(self, registry, name):
        return self.client.pipeline_runs.get(GROUP, registry, self.prefix + name, **self.plain)

    def names(self, registry):
        return [run.name for run in self.client.pipeline_runs.list(GROUP, registry, **self.plain)]

    def exports(self, pipeline):
        seen = {}
        for name, artifact in (("tag", GIVEN["by_tag"]), ("digest", GIVEN["by_digest"])):
            run = self.put("source", name, self.export_run(pipeline, [artifact], self.prefix + name))
            response = self.of(run, "response")
            assert self.of(run, "provisioning_state") == "Succeeded", run
            assert response.status == "Succeeded" and response.progress.percentage == "100", response
            assert response.catalog_digest.startswith("sha256:") and response.finish_time, response
            seen[name] = response.catalog_digest
        listed = self.names("source")
        assert listed.index(self.prefix + "tag") < listed.index(self.prefix + "digest"), listed
        assert self.get("source", "tag").id.endswith("/pipelineRuns/" + self.prefix + "tag")
        return seen

    def failure(self, pipeline):
        try:
            self.put("source", "wrong", self.export_run(pipeline, ["no/such:tag"], self.prefix + "wrong"))
        except HttpResponseError as error:
            assert "no/such:tag" in error.message and error.error.code, error
            run = self.get("source", "wrong")
            assert self.of(run, "provisioning_state") == "Failed", run
            assert self.of(run, "response").pipeline_run_error_message in error.message, run
            return error.message
        raise AssertionError("an export of what is not there succeeded")

    def refusal(self, pipeline):
        try:
            self.put("source", "refused", self.export_run(pipeline, ["UPPER:1"], "blob"))
        except HttpResponseError as error:
            assert error.status_code == 400 and error.error.code == "InvalidArtifactReference", error
            return error.message
        raise AssertionError("a reference that is none was accepted")

    def again(self, pipeline):
        run = self.export_run(pipeline, [GIVEN["by_tag"]], self.prefix + "tag")
        first = self.of(self.get("source", "tag"), "response").start_time
        same = self.of(self.put("source", "tag", run), "response")
        assert same.start_time == first, "the same request ran a second time"
        forced = self.put("source", "tag", self.export_run(pipeline, [GIVEN["by_tag"]], self.prefix + "tag", "1"))
        response = self.of(forced, "response")
        assert response.start_time > first and response.status == "Succeeded", response

    def imports(self, pipeline):
        run = self.put("target", "hand", self.import_run(pipeline, self.prefix + "tag"))
        response = self.of(run, "response")
        assert response.status == "Succeeded", response
        assert response.imported_artifacts == [GIVEN["by_tag"]], response
        return response.imported_artifacts

    def triggered(self, pipeline):
        deadline = time.time() + 120
        wanted = {"/" + self.prefix + "tag", "/" + self.prefix + "digest"}
        while time.time() < deadline:
            found = {}
            for run in self.client.pipeline_runs.list(GROUP, "target", **self.plain):
                response = self.of(run, "response")
                if "_" in run.name and self.of(run, "request").pipeline_resource_id.lower() == pipeline.id.lower():
                    assert response.trigger.source_trigger.timestamp, run
                    found[run.name] = (response.status, response.source.uri)
            succeeded = {end for status, uri in found.values() if status == "Succeeded" for end in wanted if uri.endswith(end)}
            if succeeded == wanted:
                return sorted(found)
            time.sleep(0.5)
        raise AssertionError("the trigger did not import: %s" % found)

    def delete(self, pipelines):
        runs = self.client.pipeline_runs

        def mine(registry):
            # Older versions refuse, by themselves, every name with the `_` that runs of the trigger have.
            own = [name for name in self.names(registry) if name.startswith(self.prefix)]
            return [name for name in own if not API_VERSION or "_" not in name]

        for registry in ("source", "target"):
            for name in mine(registry):
                runs.begin_delete(GROUP, registry, name, **self.plain).result()
            assert not mine(registry)
        for operations, registry, pipeline in pipelines:
            operations.begin_delete(GROUP, registry, pipeline.name, **self.plain).result()
            try:
                operations.get(GROUP, registry, pipeline.name, **self.plain)
            except ResourceNotFoundError as error:
                assert error.error.code == "ResourceNotFound", error
                continue
            raise AssertionError("%s is still there" % pipeline.name)

    def everything(self):
        export = self.export_pipeline()
        by_hand = self.import_pipeline("hand", GIVEN["source_container"], GIVEN["export_secret"], "Disabled")
        seen = {"catalogs": self.exports(export)}
        seen["failure"] = self.failure(export)
        seen["refusal"] = self.refusal(export)
        self.again(export)
        seen["imported"] = self.imports(by_hand)
        arriving = self.import_pipeline("arrive", GIVEN["target_container"], GIVEN["import_secret"], "Enabled")
        seen["triggered"] = self.triggered(arriving)
        exports, imports = self.client.export_pipelines, self.client.import_pipelines
        assert export.name in [one.name for one in exports.list(GROUP, "source", **self.plain)]
        self.delete([(exports, "source", export), (imports, "target", by_hand), (imports, "target", arriving)])
        return seen


def main():
    seen = {"key": Transfer(by_key=True).everything(), "token": Transfer(by_key=False).everything()}
    json.dump(seen, sys.stdout)


main()
